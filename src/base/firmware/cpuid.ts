import { withoutEndingNuls } from "../outside-text.js";

/** The four registers that CPUID fills, as unsigned numbers. */
export interface CpuidRegisters {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** Executes CPUID for a leaf and sub-leaf. */
export type CpuidReader = (leaf: number, subleaf?: number) => CpuidRegisters;

/** A reader, or why there is none. */
export type Cpuid = { readonly read: CpuidReader } | { readonly unreadable: string };

/** Leaf of the processor's features. */
export const FEATURES_LEAF = 1;
/** First leaf of the first hypervisor; it holds its highest leaf and its signature. */
export const FIRST_HYPERVISOR_LEAF = 0x4000_0000;

/**
 * Reports whether the features say that a hypervisor wants to be seen (ECX bit 31). Without it hypervisor leaves mean nothing:
 * processors answer with unrelated data.
 */
export function hasHypervisorBit(features: CpuidRegisters): boolean {
  return features.ecx >>> 31 !== 0;
}

/** Returns the 12 characters in EBX, ECX and EDX of a base leaf, NULs at the end left out. */
export function signatureOf({ ebx, ecx, edx }: CpuidRegisters): string {
  const bytes = Buffer.alloc(12);
  for (const [at, register] of [ebx, ecx, edx].entries()) bytes.writeUInt32LE(register >>> 0, at * 4);
  return withoutEndingNuls(bytes).toString("latin1");
}
