import {
  FEATURES_LEAF,
  FIRST_HYPERVISOR_LEAF,
  hasHypervisorBit,
  signatureOf,
} from "../base/firmware/cpuid.js";
import { known } from "../base/firmware/fact.js";
import { idOfSignature } from "../contract/interfaces.js";
import type { Facts } from "./facts.js";

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

/** How far to look. */
export interface ScanOptions {
  /** Look at all 256 bases, some milliseconds in a guest, instead of stopping at the first unprintable one. */
  readonly fullScan?: boolean | undefined;
}

/** What CPUID says of hypervisors. */
export interface CpuidScan {
  /** Leaf 1 ECX bit 31: a hypervisor wants to be seen; undefined where nobody could be asked. */
  readonly hypervisorBit: boolean | undefined;
  /** The instruction itself was asked; otherwise the bit is the kernel's flag, which Xen sets in its dom0 too. */
  readonly asked: boolean;
  /** Ranges with a signature, ascending. */
  readonly ranges: readonly CpuidRange[];
}

/**
 * Scans the hypervisor leaves. After the first base the scan stops at one whose first four characters are not printable (OpenBSD
 * sys/dev/pv/pvbus.c). Where the instruction cannot be executed the kernel's own flag stands for the bit.
 */
export function scanCpuid(facts: Facts, { fullScan = false }: ScanOptions = {}): CpuidScan {
  const features = known(facts.cpuid(FEATURES_LEAF));
  if (features === undefined) return { hypervisorBit: kernelFlag(facts), asked: false, ranges: [] };
  if (!hasHypervisorBit(features)) return { hypervisorBit: false, asked: true, ranges: [] };
  const ranges: CpuidRange[] = [];
  for (let base = FIRST_HYPERVISOR_LEAF; base < END_OF_BASES; base += BASE_STEP) {
    const registers = known(facts.cpuid(base));
    if (registers === undefined) break;
    const signature = signatureOf(registers);
    const isPrintable = /^[\x20-\x7e]{4}/.test(signature);
    if (!isPrintable && base > FIRST_HYPERVISOR_LEAF) {
      if (fullScan) continue;
      break;
    }
    const isHypervInterface = known(facts.cpuid(base + 1))?.eax === HV_INTERFACE;
    if (isPrintable || isHypervInterface) {
      ranges.push({ base, signature, id: idOfSignature(signature), isHypervInterface });
    }
  }
  return { hypervisorBit: true, asked: true, ranges };
}

/** The flag `hypervisor` of x86 in /proc/cpuinfo. */
function kernelFlag(facts: Facts): boolean | undefined {
  const flags = /^flags\s*:(.*)$/m.exec(known(facts.file("/proc/cpuinfo")) ?? "")?.[1];
  return flags === undefined ? undefined : /\bhypervisor\b/.test(flags);
}
