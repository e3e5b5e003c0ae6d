/** One kind of hypervisor interface. */
export interface InterfaceKind {
  /** Lower-case id. */
  readonly id: string;
  /** Type string: those of {@link OPENBSD_ROWS} are OpenBSD's (sys/dev/pv/pvbus.c), the others follow their manner. */
  readonly type: string;
  /** CPUID signatures: EBX, ECX, EDX of the base leaf as 12 Latin-1 characters, NULs at the end left out. */
  readonly signatures: readonly string[];
}

/**
 * The kinds, in the order in which the real hypervisor is picked among those that are not emulated. Sources of the signatures:
 * docs/detection.md.
 */
export const INTERFACE_KINDS: readonly InterfaceKind[] = [
  { id: "virtualbox", type: "VirtualBox", signatures: ["VBoxVBoxVBox"] },
  { id: "parallels", type: "Parallels", signatures: [" lrpepyh  vr", " prl hyperv "] },
  { id: "openbsd", type: "OpenBSD", signatures: ["OpenBSDVMM58"] },
  { id: "bhyve", type: "bhyve", signatures: ["bhyve bhyve ", "BHyVE BHyVE "] },
  { id: "acrn", type: "ACRN", signatures: ["ACRNACRNACRN"] },
  { id: "jailhouse", type: "Jailhouse", signatures: ["Jailhouse"] },
  { id: "qnx", type: "QNX", signatures: ["QNXQVMBSQG", " QNXQVMBSQG", "QXNQSBMV"] },
  { id: "apple", type: "Apple", signatures: ["Apple VZ"] },
  { id: "nvmm", type: "NVMM", signatures: ["___ NVMM ___"] },
  { id: "lkvm", type: "LKVM", signatures: ["LKVMLKVMLKVM"] },
  { id: "sre", type: "SRE", signatures: ["SRESRESRESRE"] },
  { id: "haxm", type: "HAXM", signatures: ["HAXMHAXMHAXM"] },
  { id: "spar", type: "sPAR", signatures: ["UnisysSpar64"] },
  { id: "kgt", type: "KGT", signatures: ["EVMMEVMMEVMM"] },
  { id: "xen", type: "Xen", signatures: ["XenVMMXenVMM"] },
  { id: "vmware", type: "VMware", signatures: ["VMwareVMware"] },
  { id: "kvm", type: "KVM", signatures: ["KVMKVMKVM", "Linux KVM Hv"] },
  { id: "qemu", type: "QEMU", signatures: ["TCGTCGTCGTCG"] },
  { id: "bochs", type: "Bochs", signatures: [] },
  { id: "hyperv", type: "Hyper-V", signatures: ["Microsoft Hv"] },
];

/** OpenBSD's rows, which come first in unit order; the others follow by base and id. */
export const OPENBSD_ROWS: readonly string[] = ["kvm", "hyperv", "vmware", "xen", "bhyve", "openbsd"];

/** Returns the type string of an id; an unknown id is its own type. */
export function typeOfId(id: string): string {
  return INTERFACE_KINDS.find((kind) => kind.id === id)?.type ?? id;
}

/** Returns the id of a type string, in its own case. */
export function idOfType(type: string): string | undefined {
  return INTERFACE_KINDS.find((kind) => kind.type === type)?.id;
}

/** Returns the id that a CPUID signature names. */
export function idOfSignature(signature: string): string | undefined {
  return INTERFACE_KINDS.find((kind) => kind.signatures.includes(signature))?.id;
}
