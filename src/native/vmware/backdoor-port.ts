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
