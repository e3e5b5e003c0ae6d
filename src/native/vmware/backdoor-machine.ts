import { pvbusError } from "../../base/errors.js";
import { createExecutablePage } from "../ffi/executable-page.js";
import type { Koffi } from "../ffi/koffi.js";
import type { Libc, NativeFunction } from "../ffi/libc.js";
import { NativeBlock } from "../ffi/native-block.js";
import { withoutSignals } from "../ffi/signal-mask.js";
import {
  type BackdoorCode,
  type BackdoorTarget,
  backdoorCode,
  PROBE_BLOCK_SIZE,
  PROBE_SURVIVED,
  type Trap,
  trapsOf,
} from "./backdoor-code.js";
import { readRegisters, writeRegisters } from "./backdoor-port.js";
import type { VmwareProof } from "./proof.js";

/** Machine code of this process that is known to work. */
export interface BackdoorMachine {
  /** What leaves to the hypervisor. */
  readonly trap: Trap;
  /** Executes operations in order. */
  readonly calls: NativeFunction;
  /** Moves memory to the hypervisor. */
  readonly send: NativeFunction;
  /** Lets it fill memory. */
  readonly fill: NativeFunction;
}

/* open-vm-tools lib/include/backdoor_def.h. */
const BDOOR_MAGIC = 0x564d_5868;
const BDOOR_PORT = 0x5658;
const BDOOR_CMD_GETVERSION = 10;
/** Any other value than the magic itself; this is what VMware's own tools send. */
const NOT_THE_MAGIC = ~BDOOR_MAGIC >>> 0;
const NO_SUCH_DEVICE = 0xffff_ffff;

const WALL = 0x4000_0000;
/** What a system says that has too many processes or too little memory at this moment. */
const PASSING = ["EAGAIN", "ENOMEM"];
const FIRST_HANDLER = 1;

/**
 * Makes the code of the first trap that answers: each is tried once where a fault ends nothing.
 * @throws PvbusError `ERR_UNAVAILABLE` when none answers, or no code can be made; `ERR_BUSY` when no child can be made now
 */
export function makeBackdoorMachine(libc: Libc, proof: VmwareProof, target: BackdoorTarget): BackdoorMachine {
  const seen: string[] = [];
  for (const trap of trapsOf(target, proof.hypercalls)) {
    const code = backdoorCode(target, trap);
    const failure = tryOnce(libc, trap, code);
    if (failure === undefined) {
      const calls = callable(libc.koffi, pageOf(libc, code.calls));
      const bulk = (bytes: Buffer): NativeFunction =>
        bytes === code.calls ? calls : callable(libc.koffi, pageOf(libc, bytes));
      return { trap, calls, send: bulk(code.send), fill: bulk(code.fill) };
    }
    seen.push(`${trap}: ${failure}`);
  }
  throw pvbusError(
    "ERR_UNAVAILABLE",
    `VMware's backdoor does not answer in this process (${seen.join("; ")}); ` +
      "it may be closed by monitor_control.restrict_backdoor, or a sandbox forbids the look; vsock needs no backdoor",
  );
}

/** Asks for the version; returns why nothing came of it. */
function tryOnce(libc: Libc, trap: Trap, { probe, handlerAt }: BackdoorCode): string | undefined {
  using block = new NativeBlock(libc.koffi, PROBE_BLOCK_SIZE);
  const page = pageOf(libc, probe);
  const run = callable(libc.koffi, page);
  writeRegisters(block.bytes, 0, {
    eax: BDOOR_MAGIC,
    ebx: NOT_THE_MAGIC,
    ecx: (0xffff_0000 | BDOOR_CMD_GETVERSION) >>> 0,
    edx: trap === "vmcall" || trap === "vmmcall" ? 0 : BDOOR_PORT,
    esi: 0,
    edi: 0,
    ebp: 0,
  });
  if (handlerAt === undefined) {
    const errno = runInChild(libc, run, block.address);
    if (errno !== undefined) return `no child could be made (${errno})`;
  } else runUnderHandler(libc.koffi, run, block.address, page + BigInt(handlerAt));
  if (block.bytes.readBigUInt64LE(PROBE_SURVIVED) !== 1n) return "the instruction faults";
  const { eax, ebx } = readRegisters(block.bytes, 0);
  return eax === NO_SUCH_DEVICE || ebx !== BDOOR_MAGIC ? "nobody answers" : undefined;
}

/**
 * Linux: the code makes the child, and goes on when that has ended. The child has this process's memory and handlers: a signal to
 * the process group would be handled twice if it took any.
 */
function runInChild(libc: Libc, run: NativeFunction, block: bigint): string | undefined {
  const pid = withoutSignals(libc, () => Number(run(block, 0)));
  if (pid < 0) {
    const name = libc.errnoName(-pid);
    if (!PASSING.includes(name)) return name;
    throw pvbusError(
      "ERR_BUSY",
      `VMware's backdoor was not looked for: no child could be made (${name}); try again`,
    );
  }
  const waitpid = libc.function("int waitpid(int, void *, int)");
  for (;;) {
    const { rc, errno } = libc.call(waitpid, pid, Buffer.alloc(4), WALL);
    if (rc === pid || libc.errnoName(errno) !== "EINTR") return undefined;
  }
}

/** Windows: the handler is there for this one call. */
function runUnderHandler(koffi: Koffi, run: NativeFunction, block: bigint, handler: bigint): void {
  const kernel = koffi.load("kernel32.dll");
  const add = kernel.func("void *__stdcall AddVectoredExceptionHandler(uint32_t, void *)");
  const remove = kernel.func("uint32_t __stdcall RemoveVectoredExceptionHandler(void *)");
  const installed: unknown = add(FIRST_HANDLER, handler);
  if (typeof installed !== "bigint") return;
  try {
    run(block, 0);
  } finally {
    remove(installed);
  }
}

function pageOf(libc: Libc, code: Buffer): bigint {
  try {
    return createExecutablePage(code, process.platform, libc);
  } catch (cause) {
    throw pvbusError(
      "ERR_UNAVAILABLE",
      "VMware's backdoor needs machine code, and this system's policy forbids executable memory; allow it, or use vsock",
      { cause },
    );
  }
}

function callable(koffi: Koffi, address: bigint): NativeFunction {
  return koffi.decode(address, koffi.proto("int64_t (void *block, int64_t count)")) as NativeFunction;
}
