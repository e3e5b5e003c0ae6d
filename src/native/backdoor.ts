import { pvbusError } from "../bus/errors.js";
import { callAsync } from "./async-call.js";
import {
  bulkCode,
  callsCode,
  PROBE_BLOCK_SIZE,
  PROBE_SURVIVED,
  probeCode,
  type Trap,
} from "./backdoor-code.js";
import type { BackdoorPort, Operation, OperationMemory, Registers } from "./backdoor-port.js";
import { createExecutablePage } from "./executable-page.js";
import { type Koffi, type KoffiLoader, loadKoffi } from "./koffi.js";
import { type Libc, type NativeFunction, openLibc } from "./libc.js";
import { NativeBlock } from "./native-block.js";
import { VmwareProof } from "./vmware-proof.js";

/** What {@link openBackdoor} may be given. */
export interface BackdoorOptions {
  /** Operating system; default: this one. */
  readonly platform?: NodeJS.Platform | undefined;
  /** Processor architecture; default: this one. */
  readonly arch?: NodeJS.Architecture | undefined;
  /** Stands in for the native library. */
  readonly koffi?: KoffiLoader | undefined;
}

/* open-vm-tools lib/include/backdoor_def.h. */
const BDOOR_MAGIC = 0x564d_5868;
const BDOOR_PORT = 0x5658;
const BDOOR_CMD_GETVERSION = 10;
/** Any other value than the magic itself; this is what VMware's own tools send. */
const NOT_THE_MAGIC = ~BDOOR_MAGIC >>> 0;
/** Flags that stand in EDX in place of the port when a hypercall is used. */
const HYPERCALL_HB = 1;
const HYPERCALL_OUT = 2;

const REGISTERS = 7;
const BLOCK_BYTES = REGISTERS * 8;
/** Most operations of one native call; a longer run is cut, so that a call ends soon. */
const BATCH = 256;
/** Memory for the bytes of an operation is kept up to this size. */
const KEEP_BYTES = 128 * 1024;
const WALL = 0x4000_0000;
const SUCCESS = 0x1_0000;

/** An executable function of ours. */
type Code = NativeFunction;

interface Machine {
  readonly trap: Trap;
  readonly calls: Code;
  readonly send: Code;
  readonly fill: Code;
}

/** What one look in this process showed; pages of code are never given back, so there is no second look. */
let known:
  | { readonly koffi: Koffi; readonly outcome: { readonly machine: Machine } | { readonly error: unknown } }
  | undefined;

/**
 * Opens the port by which VMware's hypervisor is called: machine code in this process. The first call of the process tries
 * one operation in a child that a fault may end, since the host's owner can have closed the port.
 * @param proof that this is VMware's hardware; elsewhere the instruction ends the process
 * @throws PvbusError `ERR_UNAVAILABLE` when the port faults or is not answered as VMware does, without native calls, or where
 *   no code can be made; `ERR_NOT_SUPPORTED` for a system or processor that this is not made for; TypeError without a proof
 */
export function openBackdoor(proof: VmwareProof, options: BackdoorOptions = {}): BackdoorPort {
  if (!VmwareProof.is(proof)) throw new TypeError("the backdoor opens with a proof of VMware only");
  const { platform = process.platform, arch = process.arch } = options;
  if (platform !== "linux" || arch !== "x64")
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the backdoor is not served on ${platform} ${arch}; install open-vm-tools, whose library is used in its place`,
    );
  const libc = openLibc(options.koffi ?? loadKoffi);
  if (known?.koffi !== libc.koffi) known = { koffi: libc.koffi, outcome: look(libc, proof, platform) };
  const { outcome } = known;
  if ("error" in outcome) throw outcome.error;
  return new MachinePort(libc, outcome.machine, !proof.mayEncrypt);
}

function look(
  libc: Libc,
  proof: VmwareProof,
  platform: NodeJS.Platform,
): { readonly machine: Machine } | { readonly error: unknown } {
  try {
    return { machine: makeMachine(libc, proof, platform) };
  } catch (error) {
    return { error };
  }
}

function makeMachine(libc: Libc, proof: VmwareProof, platform: NodeJS.Platform): Machine {
  const seen: string[] = [];
  for (const trap of ["in", ...proof.hypercalls] as const) {
    const outcome = probe(libc, trap, platform);
    if (outcome === "works") {
      const calls = makeCode(libc.koffi, callsCode(trap, platform), platform);
      // A hypercall moves memory by itself; at the port a string instruction does.
      const bulk = (direction: "send" | "fill"): Code =>
        trap === "in" ? makeCode(libc.koffi, bulkCode(direction, platform), platform) : calls;
      return { trap, calls, send: bulk("send"), fill: bulk("fill") };
    }
    seen.push(`${trap}: ${outcome}`);
  }
  throw pvbusError(
    "ERR_UNAVAILABLE",
    `VMware's backdoor does not answer in this process (${seen.join("; ")}); ` +
      "it may be closed by monitor_control.restrict_backdoor, or a sandbox forbids the look; vsock needs no backdoor",
  );
}

function makeCode(koffi: Koffi, code: Buffer, platform: NodeJS.Platform): Code {
  let page: bigint;
  try {
    page = createExecutablePage(code, platform, koffi);
  } catch (cause) {
    throw pvbusError(
      "ERR_UNAVAILABLE",
      "VMware's backdoor needs machine code, and this system's policy forbids executable memory; allow it, or use vsock",
      { cause },
    );
  }
  return koffi.decode(page, koffi.proto("int64_t (void *block, int64_t count)")) as Code;
}

/** Asks for the version in a child that shares the memory. */
function probe(libc: Libc, trap: Trap, platform: NodeJS.Platform): "works" | string {
  using block = new NativeBlock(libc.koffi, PROBE_BLOCK_SIZE);
  const run = makeCode(libc.koffi, probeCode(trap), platform);
  writeRegisters(block.bytes, 0, {
    eax: BDOOR_MAGIC,
    ebx: NOT_THE_MAGIC,
    ecx: (0xffff_0000 | BDOOR_CMD_GETVERSION) >>> 0,
    edx: trap === "in" ? BDOOR_PORT : 0,
    esi: 0,
    edi: 0,
    ebp: 0,
  });
  const pid = Number(run(block.address, 0));
  if (pid < 0) return `no child could be made (${libc.errnoName(-pid)})`;
  const waitpid = libc.function("int waitpid(int, void *, int)");
  const status = Buffer.alloc(4);
  for (;;) {
    const { rc, errno } = libc.call(waitpid, pid, status, WALL);
    if (rc === pid) break;
    if (libc.errnoName(errno) !== "EINTR") break;
  }
  if (block.bytes.readBigUInt64LE(PROBE_SURVIVED) !== 1n) return "the instruction faults";
  const { eax, ebx } = readRegisters(block.bytes, 0);
  if (eax === 0xffff_ffff || ebx !== BDOOR_MAGIC) return "nobody answers";
  return "works";
}

/** The processor's own port. */
class MachinePort implements BackdoorPort {
  readonly name: string;
  readonly seesMemory: boolean;
  readonly #libc: Libc;
  readonly #machine: Machine;
  #block: NativeBlock | undefined;
  #memory: NativeBlock | undefined;

  constructor(libc: Libc, machine: Machine, seesMemory: boolean) {
    this.#libc = libc;
    this.#machine = machine;
    this.seesMemory = seesMemory;
    this.name = machine.trap === "in" ? "the backdoor" : `the backdoor (${machine.trap})`;
  }

  operate(operations: readonly Operation[]): readonly Registers[] | Promise<readonly Registers[]> {
    const [first] = operations;
    if (first === undefined) return [];
    if (operations.length === 1 && !first.mayWait && first.memory === undefined)
      return this.#results(1, Number(this.#machine.calls(this.#fill(operations), 1)));
    return this.#inTurn(operations);
  }

  close(): void {
    this.#block?.free();
    this.#memory?.free();
    this.#block = undefined;
    this.#memory = undefined;
  }

  async #inTurn(operations: readonly Operation[]): Promise<readonly Registers[]> {
    const all: Registers[] = [];
    for (let at = 0; at < operations.length; ) {
      const next = operations[at] as Operation;
      const results =
        next.memory === undefined
          ? await this.#run(operations.slice(at, endOfCalls(operations, at)))
          : [await this.#move(next, next.memory)];
      all.push(...results);
      at += results.length;
      if (next.memory === undefined && ((results.at(-1)?.ecx ?? 0) & SUCCESS) === 0) break;
    }
    return all;
  }

  async #run(operations: readonly Operation[]): Promise<readonly Registers[]> {
    const address = this.#fill(operations);
    const { rc } = await callAsync(this.#libc, this.#machine.calls, address, operations.length);
    return this.#results(operations.length, Number(rc));
  }

  async #move(operation: Operation, { direction, bytes }: OperationMemory): Promise<Registers> {
    const memory = this.#room(bytes.length);
    // Written in either direction: the hypervisor needs the pages present.
    memory.bytes.set(bytes);
    const address = this.#fill([operation]);
    const { bytes: block } = this.#block as NativeBlock;
    block.writeBigUInt64LE(memory.address, (direction === "send" ? 4 : 5) * 8);
    if (this.#machine.trap !== "in")
      block.writeUInt16LE(direction === "send" ? HYPERCALL_HB | HYPERCALL_OUT : HYPERCALL_HB, 3 * 8);
    await callAsync(this.#libc, this.#machine[direction], address, 1);
    if (direction === "fill") bytes.set(memory.bytes.subarray(0, bytes.length));
    if (memory.bytes.length > KEEP_BYTES) {
      memory.free();
      this.#memory = undefined;
    }
    return readRegisters(block, 0);
  }

  #fill(operations: readonly Operation[]): bigint {
    this.#block ??= new NativeBlock(this.#libc.koffi, BATCH * BLOCK_BYTES);
    const { bytes, address } = this.#block;
    operations.forEach(({ registers }, at) => {
      writeRegisters(bytes, at * BLOCK_BYTES, registers);
      if (this.#machine.trap !== "in") bytes.writeUInt16LE(0, at * BLOCK_BYTES + 3 * 8);
    });
    return address;
  }

  #results(count: number, leftOut: number): readonly Registers[] {
    const { bytes } = this.#block as NativeBlock;
    return Array.from({ length: count - leftOut }, (_, at) => readRegisters(bytes, at * BLOCK_BYTES));
  }

  #room(size: number): NativeBlock {
    if (this.#memory !== undefined && this.#memory.bytes.length >= size) return this.#memory;
    this.#memory?.free();
    this.#memory = undefined;
    this.#memory = new NativeBlock(this.#libc.koffi, size);
    return this.#memory;
  }
}

function endOfCalls(operations: readonly Operation[], from: number): number {
  let end = from;
  while (end < operations.length && end < from + BATCH && operations[end]?.memory === undefined) end++;
  return end;
}

function writeRegisters(bytes: Buffer, at: number, registers: Registers): void {
  const { eax, ebx, ecx, edx, esi, edi, ebp } = registers;
  [eax, ebx, ecx, edx, esi, edi, ebp].forEach((register, index) => {
    bytes.writeUInt32LE(register, at + index * 8);
    bytes.writeUInt32LE(0, at + index * 8 + 4);
  });
}

/** The upper halves are the processor's or the hypervisor's leftovers. */
function readRegisters(bytes: Buffer, at: number): Registers {
  const register = (index: number): number => bytes.readUInt32LE(at + index * 8);
  return {
    eax: register(0),
    ebx: register(1),
    ecx: register(2),
    edx: register(3),
    esi: register(4),
    edi: register(5),
    ebp: register(6),
  };
}
