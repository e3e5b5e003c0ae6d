/** The registers of one operation of VMware's backdoor: the low 32 bits of each, unsigned. */
export interface Registers {
  /** EAX. */
  readonly eax: number;
  /** EBX. */
  readonly ebx: number;
  /** ECX. */
  readonly ecx: number;
  /** EDX. */
  readonly edx: number;
  /** ESI; the port puts the memory's address here when it is sent. */
  readonly esi: number;
  /** EDI; the port puts the memory's address here when it is filled. */
  readonly edi: number;
  /** EBP. */
  readonly ebp: number;
}

/** Memory that one string instruction moves. */
export interface OperationMemory {
  /** Whether the hypervisor takes the bytes or fills them. */
  readonly direction: "send" | "fill";
  /** The bytes themselves. */
  readonly bytes: Uint8Array;
}

/** One operation: registers in, registers out, and memory that moves with it. */
export interface Operation {
  /** What goes in. */
  readonly registers: Registers;
  /** Memory of a string instruction (high bandwidth); ECX is its length. */
  readonly memory?: OperationMemory | undefined;
  /** The hypervisor may take its time over it, or there is much to move: it is not for the event loop. */
  readonly mayWait: boolean;
}

/** What executes operations: the processor's instruction, or a simulated machine. */
export interface BackdoorPort {
  /** Names it in messages. */
  readonly name: string;
  /** Whether the hypervisor can see this machine's memory, which operations with memory need. */
  readonly seesMemory: boolean;
  /**
   * Executes operations in order, and stops behind the first one without memory that leaves bit 16 of ECX (success) clear.
   * @returns what came out of those that were executed
   */
  operate(operations: readonly Operation[]): readonly Registers[] | Promise<readonly Registers[]>;
  /** Gives back what it holds; nothing is under way then. May be called twice. */
  close(): void;
}

/** Bytes of seven registers as the machine code takes them, and where some of these are. */
export const REGISTERS_BYTES = 7 * 8;
export const EDX_AT = 3 * 8;
export const ESI_AT = 4 * 8;
export const EDI_AT = 5 * 8;

/** Puts registers into a block of 64-bit ones. */
export function writeRegisters(bytes: Buffer, at: number, registers: Registers): void {
  const { eax, ebx, ecx, edx, esi, edi, ebp } = registers;
  for (const [index, register] of [eax, ebx, ecx, edx, esi, edi, ebp].entries()) {
    bytes.writeUInt32LE(register, at + index * 8);
    bytes.writeUInt32LE(0, at + index * 8 + 4);
  }
}

/** Returns registers of a block; the upper halves are the processor's or the hypervisor's leftovers. */
export function readRegisters(bytes: Buffer, at: number): Registers {
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
