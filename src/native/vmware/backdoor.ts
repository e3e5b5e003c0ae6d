import { PvbusError, pvbusError } from "../../base/errors.js";
import { callAsync } from "../ffi/async-call.js";
import type { Koffi, KoffiLoader } from "../ffi/koffi.js";
import type { Libc } from "../ffi/libc.js";
import { NativeBlock } from "../ffi/memory.js";
import { openLibc } from "../ffi/open-libc.js";
import { backdoorTarget } from "./backdoor-code.js";
import { type BackdoorMachine, makeBackdoorMachine } from "./backdoor-machine.js";
import {
  type BackdoorPort,
  EDI_AT,
  EDX_AT,
  ESI_AT,
  type Operation,
  type OperationMemory,
  REGISTERS_BYTES,
  type Registers,
  readRegisters,
  writeRegisters,
} from "./backdoor-port.js";
import { VmwareProof } from "./proof.js";

/** Flags that stand in EDX in place of the port when a hypercall is used. */
const HYPERCALL_HB = 1;
const HYPERCALL_OUT = 2;

/** Most operations of one native call; a longer run is cut, so that a call ends soon. */
const BATCH = 256;
/** Memory for the bytes of an operation is kept up to this size. */
const KEEP_BYTES = 128 * 1024;
const SUCCESS = 0x1_0000;

type Outcome = { readonly machine: BackdoorMachine } | { readonly error: unknown };

/** What one look in this process showed; pages of code are never given back, so there is no second look. */
let known: { readonly koffi: Koffi; readonly outcome: Outcome } | undefined;

/**
 * Opens the port by which VMware's hypervisor is called: machine code in this process. The first call of the process tries
 * one operation where a fault ends nothing, since the host's owner can have closed the port.
 * @param proof that this is VMware's hardware; elsewhere the instruction ends the process
 * @param loader stands in for the native library
 * @throws PvbusError `ERR_BUSY` when no child can be made now; `ERR_UNAVAILABLE` when the port faults or is not answered as VMware does, without native calls, or where
 *   no code can be made; `ERR_NOT_SUPPORTED` for a system or processor that this is not made for; TypeError without a proof
 */
export function openBackdoor(proof: VmwareProof, loader?: KoffiLoader): BackdoorPort {
  if (!VmwareProof.is(proof)) throw new TypeError("the backdoor opens with a proof of VMware only");
  const libc = openLibc(loader);
  if (known?.koffi !== libc.koffi) known = { koffi: libc.koffi, outcome: look(libc, proof) };
  const { outcome } = known;
  if ("error" in outcome) throw outcome.error;
  return new MachinePort(libc, outcome.machine, !proof.mayEncrypt);
}

function look(libc: Libc, proof: VmwareProof): Outcome {
  try {
    const target = backdoorTarget(process.platform, process.arch);
    if (target !== undefined) return { machine: makeBackdoorMachine(libc, proof, target) };
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the backdoor is not served on ${process.platform} ${process.arch}; install open-vm-tools, whose library is used in its place`,
    );
  } catch (error) {
    // What passes is looked for again.
    if (PvbusError.is(error) && error.code === "ERR_BUSY") throw error;
    return { error };
  }
}

class MachinePort implements BackdoorPort {
  readonly name: string;
  readonly seesMemory: boolean;
  readonly #libc: Libc;
  readonly #machine: BackdoorMachine;
  readonly #isHypercall: boolean;
  #block: NativeBlock | undefined;
  #memory: NativeBlock | undefined;

  constructor(libc: Libc, machine: BackdoorMachine, seesMemory: boolean) {
    this.#libc = libc;
    this.#machine = machine;
    this.seesMemory = seesMemory;
    this.#isHypercall = machine.trap === "vmcall" || machine.trap === "vmmcall";
    this.name = !this.#isHypercall ? "the backdoor" : `the backdoor (${machine.trap})`;
  }

  operate(operations: readonly Operation[]): readonly Registers[] | Promise<readonly Registers[]> {
    const [first] = operations;
    if (first === undefined) return [];
    if (operations.length > BATCH || operations.some(({ mayWait }) => mayWait))
      return this.#inTurn(operations);
    if (operations.length === 1 && first.memory !== undefined) {
      const address = this.#stage(first, first.memory);
      this.#machine[first.memory.direction](address, 1);
      return [this.#moved(first.memory)];
    }
    if (operations.some(({ memory }) => memory !== undefined)) return this.#inTurn(operations);
    const count = operations.length;
    return this.#results(count, Number(this.#machine.calls(this.#fill(operations), count)));
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
      const batch = operations.slice(at, at + BATCH);
      const calls = batch.findIndex(({ memory }) => memory !== undefined);
      const results =
        next.memory === undefined
          ? await this.#run(calls < 0 ? batch : batch.slice(0, calls))
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

  async #move(operation: Operation, memory: OperationMemory): Promise<Registers> {
    await callAsync(this.#libc, this.#machine[memory.direction], this.#stage(operation, memory), 1);
    return this.#moved(memory);
  }

  /** Puts registers and bytes where the code takes them. */
  #stage(operation: Operation, { direction, bytes }: OperationMemory): bigint {
    const isSent = direction === "send";
    this.#memory = NativeBlock.fitting(this.#memory, this.#libc.koffi, bytes.length);
    // Written in either direction: the hypervisor needs the pages present.
    this.#memory.bytes.set(bytes);
    const address = this.#fill([operation]);
    const { bytes: block } = this.#block as NativeBlock;
    block.writeBigUInt64LE(this.#memory.address, isSent ? ESI_AT : EDI_AT);
    if (this.#isHypercall) block.writeUInt16LE(isSent ? HYPERCALL_HB | HYPERCALL_OUT : HYPERCALL_HB, EDX_AT);
    return address;
  }

  /** Returns the registers, and to the caller the bytes that came. */
  #moved({ direction, bytes }: OperationMemory): Registers {
    const memory = this.#memory as NativeBlock;
    if (direction === "fill") bytes.set(memory.bytes.subarray(0, bytes.length));
    if (memory.bytes.length > KEEP_BYTES) {
      memory.free();
      this.#memory = undefined;
    }
    return readRegisters((this.#block as NativeBlock).bytes, 0);
  }

  #fill(operations: readonly Operation[]): bigint {
    this.#block ??= new NativeBlock(this.#libc.koffi, BATCH * REGISTERS_BYTES);
    const { bytes, address } = this.#block;
    operations.forEach(({ registers }, at) => {
      writeRegisters(bytes, at * REGISTERS_BYTES, registers);
      if (this.#isHypercall) bytes.writeUInt16LE(0, at * REGISTERS_BYTES + EDX_AT);
    });
    return address;
  }

  #results(count: number, leftOut: number): readonly Registers[] {
    const { bytes } = this.#block as NativeBlock;
    return Array.from({ length: count - leftOut }, (_, at) => readRegisters(bytes, at * REGISTERS_BYTES));
  }
}
