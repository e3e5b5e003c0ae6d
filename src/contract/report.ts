/** Kinds of sources that evidence comes from. */
export type EvidenceSource =
  | "cpuid"
  | "dmi"
  | "acpi"
  | "sysfs"
  | "procfs"
  | "devicetree"
  | "sysctl"
  | "ioctl"
  | "dmesg"
  | "registry"
  | "path";

/** One observed fact. */
export interface Evidence {
  /** Where it was read. */
  readonly source: EvidenceSource;
  /** What was read, in words with the raw value: `leaf 0x40000000: KVMKVMKVM`. */
  readonly detail: string;
}

/** One hypervisor interface of this guest as detection found it. */
export interface DetectedInterface {
  /** Number in OpenBSD's row order; `/dev/pvbus<unit>`. */
  readonly unit: number;
  /** `pvbus<unit>`. */
  readonly name: string;
  /** Lower-case id: `kvm`, `hyperv`, `vmware`, `xen`, … */
  readonly id: string;
  /** Type string: `KVM`, `Hyper-V`, `VMware`, `Xen`, `bhyve`, `OpenBSD`, … */
  readonly type: string;
  /** `host` for a controlling partition (Hyper-V root, Xen dom0), `guest-api` for a store that was found by its place, else `guest`. */
  readonly role: "guest" | "host" | "guest-api";
  /** CPUID base as `0x40000000`; null when it was not found through CPUID. */
  readonly base: string | null;
  /** Offered by a different hypervisor. */
  readonly emulated: boolean;
  /** What speaks for it. */
  readonly evidence: readonly Evidence[];
  /** Decoded facts: versions, features, limits. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** What detection says of one machine. The shape is the document of `pvbus detect --json`, hence null for "none". */
export interface DetectionReport {
  /** Is this operating system instance a guest? */
  readonly virtual: boolean;
  /** Id of the real hypervisor, `unknown` when there is one without a name, null when this is no guest. */
  readonly primary: string | null;
  /** `pvbusN` of the primary, or null. */
  readonly primaryName: string | null;
  /** Every interface in unit order. */
  readonly interfaces: readonly DetectedInterface[];
  /** Cloud platform: `azure`, `ec2`, `gce`, `openstack`, …, or null. */
  readonly platform: string | null;
  /** Container around this process: `docker`, `wsl`, …, or null. */
  readonly container: string | null;
  /** Confidential computing technology: `sev-snp`, `tdx`, …, or null. */
  readonly confidential: string | null;
  /** True where nesting is provable. */
  readonly nested: boolean;
  /** Sources that could not be read, with the reason; absence there proves nothing. */
  readonly unreadable: readonly Evidence[];
}
