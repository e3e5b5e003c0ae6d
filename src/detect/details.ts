import type { CpuidRegisters } from "../base/firmware/cpuid.js";

/** Decoded facts of an interface. */
export type Details = Readonly<Record<string, unknown>>;

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
  const isolated = (((access?.ebx ?? 0) >>> 22) & 1) === 1;
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
