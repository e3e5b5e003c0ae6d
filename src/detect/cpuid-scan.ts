import type { CpuidRegisters } from "../native/cpuid.js";
import { type Facts, known } from "./facts.js";
import { idOfSignature } from "./interface-table.js";

const FIRST_BASE = 0x40000000;
const END_OF_BASES = 0x40010000;
const BASE_STEP = 0x100;
/** "Hv#1" in EAX of base + 1: conforms to the Hyper-V interface whatever the vendor text says (Hyper-V TLFS). */
const HV_INTERFACE = 0x31237648;

/** One hypervisor range that CPUID shows. */
export interface CpuidRange {
  /** First leaf. */
  readonly base: number;
  /** The 12 characters, NULs at the end left out. */
  readonly signature: string;
  /** Id that they name. */
  readonly id: string | undefined;
  /** Conforms to the Hyper-V interface. */
  readonly isHypervInterface: boolean;
}

/** What CPUID says of hypervisors. */
export interface CpuidScan {
  /** The instruction could be executed. */
  readonly askable: boolean;
  /** Leaf 1 ECX bit 31: a hypervisor wants to be seen. */
  readonly hypervisorBit: boolean;
  /** Ranges with a signature, ascending. */
  readonly ranges: readonly CpuidRange[];
}

/**
 * Scans the hypervisor leaves. Without the hypervisor bit they mean nothing: processors answer with unrelated data.
 * The scan stops after the first base whose first four characters are not printable (OpenBSD sys/dev/pv/pvbus.c).
 */
export function scanCpuid(facts: Facts): CpuidScan {
  const features = facts.cpuid(1);
  if (features.kind !== "value") return { askable: false, hypervisorBit: false, ranges: [] };
  if (features.value.ecx >>> 31 === 0) return { askable: true, hypervisorBit: false, ranges: [] };
  const ranges: CpuidRange[] = [];
  for (let base = FIRST_BASE; base < END_OF_BASES; base += BASE_STEP) {
    const registers = known(facts.cpuid(base));
    if (registers === undefined) break;
    const signature = signatureOf(registers);
    if (!/^[\x20-\x7e]{4}/.test(signature)) break;
    const isHypervInterface = known(facts.cpuid(base + 1))?.eax === HV_INTERFACE;
    ranges.push({ base, signature, id: idOfSignature(signature), isHypervInterface });
  }
  return { askable: true, hypervisorBit: true, ranges };
}

function signatureOf({ ebx, ecx, edx }: CpuidRegisters): string {
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32LE(ebx, 0);
  bytes.writeUInt32LE(ecx, 4);
  bytes.writeUInt32LE(edx, 8);
  return bytes.toString("latin1").replace(/\0+$/, "");
}
