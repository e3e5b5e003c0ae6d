import { pvbusError } from "../../base/errors.js";
import type { Koffi } from "../ffi/koffi.js";
import { type Libc, type NativeFunction, windowsFunctions } from "../ffi/libc.js";
import { createExecutablePage, NativeBlock } from "../ffi/memory.js";
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
  readonly trap: Trap;
  readonly calls: NativeFunction;
  readonly send: NativeFunction;
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

/* Linux on x86-64 and arm64: asm-generic/signal.h, and sigset_t of both C libraries. */
const SIG_SETMASK = 2;
const SET_BYTES = 128;
/** SIGILL, SIGBUS, SIGFPE, SIGSEGV: what an instruction itself may raise, which is deadly while it is blocked. */
const RAISED_BY_INSTRUCTIONS = [4, 7, 8, 11];

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
  for (;;) {
    const { rc, errno } = libc.call("int waitpid(int, void *, int)", pid, Buffer.alloc(4), WALL);
    if (rc === pid || libc.errnoName(errno) !== "EINTR") return undefined;
  }
}

/**
 * Runs something that takes no time with this thread's signals held back, except those that an instruction may raise. What a
 * child process is sent that it makes is held back there too. What comes meanwhile comes afterwards, or to another thread.
 * @throws what it throws, with the signals as they were; a system error
 */
export function withoutSignals<T>(libc: Libc, run: () => T): T {
  const setMask = libc.function("int pthread_sigmask(int, const void *, void *)");
  const all = Buffer.alloc(SET_BYTES, 0xff);
  for (const signal of RAISED_BY_INSTRUCTIONS) {
    const at = (signal - 1) >> 3;
    all[at] = (all[at] as number) & ~(1 << ((signal - 1) & 7));
  }
  const before = Buffer.alloc(SET_BYTES);
  const refusal = setMask(SIG_SETMASK, all, before);
  if (refusal !== 0) throw libc.systemError("pthread_sigmask", refusal);
  try {
    return run();
  } finally {
    setMask(SIG_SETMASK, before, null);
  }
}

/** Windows: the handler is there for this one call. */
function runUnderHandler(koffi: Koffi, run: NativeFunction, block: bigint, handler: bigint): void {
  const { add, remove } = windowsFunctions(koffi, "kernel32.dll", {
    add: "void * AddVectoredExceptionHandler(uint32_t, void *)",
    remove: "uint32_t RemoveVectoredExceptionHandler(void *)",
  });
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
