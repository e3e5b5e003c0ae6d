import { closeSync, openSync, readSync } from "node:fs";
import type { CpuidReader, CpuidRegisters } from "./cpuid.js";

/** Where Linux's `cpuid` module answers for the first processor; readable by root. */
export const CPUID_DEVICE = "/dev/cpu/0/cpuid";

/**
 * Returns a reader over Linux's CPUID device: 16 bytes at position leaf, sub-leaf in the upper 32 bits (Linux
 * arch/x86/kernel/cpuid.c). About 40 µs a leaf; no descriptor stays open.
 * @returns undefined when it cannot be read: not root, module not loaded, or no such device
 */
export function openCpuidDevice(path: string = CPUID_DEVICE): CpuidReader | undefined {
  try {
    readLeaf(path, 0, 0);
  } catch {
    // The caller has a reason of its own to tell, and this way was only the second.
    return undefined;
  }
  return (leaf, subleaf = 0) => readLeaf(path, leaf >>> 0, subleaf >>> 0);
}

function readLeaf(path: string, leaf: number, subleaf: number): CpuidRegisters {
  const bytes = Buffer.alloc(16);
  const fd = openSync(path, "r");
  try {
    const count = readSync(fd, bytes, 0, 16, (BigInt(subleaf) << 32n) | BigInt(leaf));
    if (count !== bytes.length) throw new Error(`${path} gave ${count} bytes in place of 16`);
  } finally {
    closeSync(fd);
  }
  return {
    eax: bytes.readUInt32LE(0),
    ebx: bytes.readUInt32LE(4),
    ecx: bytes.readUInt32LE(8),
    edx: bytes.readUInt32LE(12),
  };
}
