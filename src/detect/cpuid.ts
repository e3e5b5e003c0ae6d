import {
  type CpuidRegisters,
  FEATURES_LEAF,
  FIRST_HYPERVISOR_LEAF,
  hasHypervisorBit,
  signatureOf,
} from "../base/firmware/cpuid.js";
import { known } from "../base/firmware/fact.js";
import { idOfSignature } from "../contract/interfaces.js";
import { type Facts, type Findings, hex } from "./facts.js";

/** The first of three leaves with the processor's name. */
export const NAME_LEAF = 0x80000002;
const END_OF_BASES = 0x40010000;
const BASE_STEP = 0x100;
/** "Hv#1" in EAX of base + 1: conforms to the Hyper-V interface whatever the vendor text says (Hyper-V TLFS). */
const HV_INTERFACE = 0x31237648;
/** Hyper-V's privileges in EBX of base + 3: a root partition has the first, a confidential guest the second. */
const CPU_MANAGEMENT = 1 << 12;
export const ISOLATION = 1 << 22;

/** One hypervisor range: its first leaf, its signature without NULs at the end, and the id that this names. */
interface CpuidRange {
  readonly base: number;
  readonly signature: string;
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
  if (features === undefined) {
    const hypervisorBit = hypervisorFlag(known(facts.file("/proc/cpuinfo")) ?? "");
    return { hypervisorBit, asked: false, ranges: [] };
  }
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

/** Returns the flag `hypervisor` of x86 in /proc/cpuinfo; undefined where it has no flags. */
export function hypervisorFlag(cpuinfo: string): boolean | undefined {
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1];
  return flags === undefined ? undefined : /\bhypervisor\b/.test(flags);
}

/** Returns the first 16 characters of the processor's name. */
export function processorName(facts: Facts): string {
  const registers = known(facts.cpuid(NAME_LEAF));
  if (registers === undefined) return namedProcessor(known(facts.file("/proc/cpuinfo")) ?? "");
  const { eax, ebx, ecx, edx } = registers;
  return Buffer.from(Uint32Array.of(eax, ebx, ecx, edx).buffer).toString("latin1");
}

/** Returns the same of /proc/cpuinfo on x86. */
export function namedProcessor(cpuinfo: string): string {
  return /^model name\s*:\s*(.{0,16})/m.exec(cpuinfo)?.[1] ?? "";
}

/** Judges what the ranges say. */
export function judgeCpuid(facts: Facts, scan: CpuidScan, findings: Findings): void {
  for (const { base, signature, id, isHypervInterface } of scan.ranges) {
    const leaf = (offset: number) => known(facts.cpuid(base + offset));
    if (id !== undefined) {
      const found = findings.add(id, "cpuid", () => `leaf ${hex(base)}: ${signature}`);
      found.base = base;
      if (id === "acrn" && ((leaf(1)?.eax ?? 0) & 1) === 1) found.role = "host";
      if (id !== "hyperv" && !isHypervInterface) found.describe = () => cpuidDetails(id, leaf);
    }
    if (id === "hyperv" || isHypervInterface) {
      const found =
        findings.byId.get("hyperv") ??
        findings.add("hyperv", "cpuid", () => `leaf ${hex(base + 1)}: Hv#1 (${signature})`);
      found.base ??= base;
      found.emulated ||= id !== "hyperv";
      const privileges = leaf(3)?.ebx ?? 0;
      if ((privileges & CPU_MANAGEMENT) !== 0 && (privileges & ISOLATION) === 0) found.role = "host";
      found.describe = () => cpuidDetails("hyperv", leaf);
    }
  }
}

type Details = Readonly<Record<string, unknown>>;

/** Reads a leaf relative to the interface's base. */
type Leaf = (offset: number) => CpuidRegisters | undefined;

type Bits = Readonly<Record<number, string>>;

/** KVM's features, EAX of base + 1 (Linux arch/x86/include/uapi/asm/kvm_para.h). */
const KVM_FEATURES: Bits = {
  0: "clocksource",
  1: "nop-io-delay",
  2: "mmu-op",
  3: "clocksource2",
  4: "async-page-fault",
  5: "steal-time",
  6: "pv-eoi",
  7: "pv-unhalt",
  9: "pv-tlb-flush",
  10: "async-page-fault-vmexit",
  11: "pv-send-ipi",
  12: "poll-control",
  13: "pv-sched-yield",
  14: "async-page-fault-interrupt",
  15: "msi-extended-destination",
  16: "map-gpa-range",
  17: "migration-control",
  24: "stable-clocksource",
};

/** Hyper-V's privileges, EAX and EBX of base + 3 (Linux include/asm-generic/hyperv-tlfs.h). */
const HYPERV_ACCESS: Bits = {
  0: "vp-runtime",
  1: "reference-counter",
  2: "synic",
  3: "synthetic-timers",
  4: "apic",
  5: "hypercall",
  6: "vp-index",
  7: "reset",
  8: "statistics",
  9: "reference-tsc",
  10: "guest-idle",
  11: "frequencies",
  13: "re-enlightenment",
  15: "tsc-invariant",
};
const HYPERV_PRIVILEGES: Bits = {
  0: "create-partitions",
  1: "access-partition-id",
  2: "access-memory-pool",
  3: "adjust-message-buffers",
  4: "post-messages",
  5: "signal-events",
  6: "create-port",
  7: "connect-port",
  8: "access-statistics",
  11: "debugging",
  12: "cpu-management",
  20: "extended-hypercalls",
  22: "isolation",
};
const HYPERV_ISOLATION: Bits = { 0: "none", 1: "vbs", 2: "sev-snp", 3: "tdx" };

/** Xen's HVM features, EAX of base + 4 (Linux arch/x86/include/asm/xen/cpuid.h). */
const XEN_HVM: Bits = {
  0: "apic-virtualised",
  1: "x2apic-virtualised",
  2: "iommu-mappings",
  3: "vcpu-id",
  4: "domain-id",
};

/** Leaf relative to VMware's base that holds its clocks in kHz (Linux arch/x86/kernel/cpu/vmware.c). */
const VMWARE_CLOCKS = 0x10;

function names(word: number | undefined, bits: Bits): string[] {
  return Object.entries(bits)
    .filter(([bit]) => (((word ?? 0) >>> Number(bit)) & 1) === 1)
    .map(([, name]) => name);
}

function version(packed: number | undefined): string {
  return `${(packed ?? 0) >>> 16}.${(packed ?? 0) & 0xffff}`;
}

function hypervDetails(leaf: Leaf): Details {
  const build = leaf(2);
  const access = leaf(3);
  const limits = leaf(5);
  const isolation = (leaf(0xc)?.ebx ?? 0) & 0xf;
  const isolated = ((access?.ebx ?? 0) & ISOLATION) !== 0;
  return {
    version: version(build?.ebx),
    build: build?.eax ?? 0,
    access: names(access?.eax, HYPERV_ACCESS),
    privileges: names(access?.ebx, HYPERV_PRIVILEGES),
    maxVirtualProcessors: limits?.eax ?? 0,
    maxLogicalProcessors: limits?.ebx ?? 0,
    ...(isolated ? { isolation: HYPERV_ISOLATION[isolation] ?? `type ${isolation}` } : {}),
  };
}

function xenDetails(leaf: Leaf): Details {
  const hvm = leaf(4);
  const knowsDomain = (((hvm?.eax ?? 0) >>> 4) & 1) === 1;
  return {
    version: version(leaf(1)?.eax),
    features: names(hvm?.eax, XEN_HVM),
    ...(knowsDomain ? { domainId: hvm?.ecx } : {}),
  };
}

function vmwareDetails(leaf: Leaf): Details {
  const clocks = (leaf(0)?.eax ?? 0) % 0x100 >= VMWARE_CLOCKS ? leaf(VMWARE_CLOCKS) : undefined;
  return clocks === undefined ? {} : { tscKhz: clocks.eax, busKhz: clocks.ebx };
}

/** Decodes what CPUID says of an interface beyond its name: versions, features by name, limits, clocks. */
export function cpuidDetails(id: string, leaf: Leaf): Details {
  switch (id) {
    case "kvm":
    case "openbsd":
      return { features: names(leaf(1)?.eax, KVM_FEATURES), hints: names(leaf(1)?.edx, { 0: "realtime" }) };
    case "hyperv":
      return hypervDetails(leaf);
    case "xen":
      return xenDetails(leaf);
    case "vmware":
      return vmwareDetails(leaf);
    default:
      return {};
  }
}
