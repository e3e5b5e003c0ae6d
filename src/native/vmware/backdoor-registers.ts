import type { Registers } from "./backdoor-port.js";

/** Bytes of seven registers as the machine code takes them. */
export const REGISTERS_BYTES = 7 * 8;
/** Where EDX is in them. */
export const EDX_AT = 3 * 8;
/** Where ESI is in them. */
export const ESI_AT = 4 * 8;
/** Where EDI is in them. */
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
