import {
  type Cpuid,
  type CpuidReader,
  FEATURES_LEAF,
  FIRST_HYPERVISOR_LEAF,
  hasHypervisorBit,
  signatureOf,
} from "../../base/firmware/cpuid.js";

interface VmwareFacts {
  readonly arch: NodeJS.Architecture;
  readonly cpuid: Cpuid;
  /** DMI's system vendor; undefined where it cannot be read. */
  readonly systemVendor: string | undefined;
}

const HYPERCALLS_LEAF = FIRST_HYPERVISOR_LEAF + 0x10;
const HYPERCALLS = [
  { name: "vmcall", flag: 1 << 1 },
  { name: "vmmcall", flag: 1 << 0 },
] as const;
const ENCRYPTION = 0x8000_001f;
/** SEV, SEV-ES, SEV-SNP (AMD APM volume 3, Fn8000_001F). */
const ENCRYPTED_MODES = 0b1_1010;
const SIGNATURE = "VMwareVMware";
/** Windows puts this hypervisor below itself where its own security needs one. */
const WINDOWS_OWN = "Microsoft Hv";

/** Why a machine is none of VMware's. */
export interface NotVmware {
  readonly refused: string;
  /** DMI names VMware all the same, and the processor cannot be asked: it may well be one. */
  readonly isLikely?: boolean;
}

/**
 * The proof that this process runs on VMware's virtual hardware: without one no port instruction is executed, because
 * elsewhere it ends the process. Only {@link proveVmware} makes it.
 */
export class VmwareProof {
  readonly #made = true;
  readonly evidence: string;
  /** Hypercalls that may stand in for the port, the better one first. */
  readonly hypercalls: readonly ("vmcall" | "vmmcall")[];
  /** The processor can encrypt this machine's memory, so that the hypervisor may not see it. */
  readonly mayEncrypt: boolean;

  private constructor(evidence: string, hypercalls: readonly ("vmcall" | "vmmcall")[], mayEncrypt: boolean) {
    this.evidence = evidence;
    this.hypercalls = hypercalls;
    this.mayEncrypt = mayEncrypt;
  }

  static is(value: unknown): value is VmwareProof {
    return typeof value === "object" && value !== null && #made in value && value.#made;
  }

  /** @internal Use {@link proveVmware}. */
  static judge({ arch, cpuid, systemVendor }: VmwareFacts): VmwareProof | NotVmware {
    const dmi = systemVendor?.startsWith("VMware") === true ? `DMI sys_vendor: ${systemVendor}` : undefined;
    if (arch === "arm64")
      return dmi === undefined ? { refused: "DMI does not name VMware" } : new VmwareProof(dmi, [], false);
    if (!("read" in cpuid)) return { refused: cpuid.unreadable, isLikely: dmi !== undefined };
    const hasName = hasHypervisorBit(cpuid.read(FEATURES_LEAF));
    const signature = hasName ? signatureOf(cpuid.read(FIRST_HYPERVISOR_LEAF)) : undefined;
    if (signature === SIGNATURE) {
      const flags =
        cpuid.read(FIRST_HYPERVISOR_LEAF).eax >= HYPERCALLS_LEAF ? cpuid.read(HYPERCALLS_LEAF).ecx : 0;
      const hypercalls = HYPERCALLS.filter(({ flag }) => (flags & flag) !== 0).map(({ name }) => name);
      return new VmwareProof(`CPUID leaf 0x40000000: ${SIGNATURE}`, hypercalls, canEncrypt(cpuid.read));
    }
    // VMware can be told to hide from CPUID. Any other name there is another hypervisor's, whatever DMI says.
    if (signature !== undefined && signature !== WINDOWS_OWN)
      return { refused: `the processor names the hypervisor ${JSON.stringify(signature)}` };
    if (dmi === undefined) return { refused: "neither CPUID nor DMI names VMware" };
    return new VmwareProof(dmi, [], canEncrypt(cpuid.read));
  }
}

/** Judges whether a machine is VMware's from CPUID and DMI alone, without touching a port. */
export const proveVmware: (facts: VmwareFacts) => VmwareProof | NotVmware = VmwareProof.judge;

function canEncrypt(read: CpuidReader): boolean {
  return read(0x8000_0000).eax >= ENCRYPTION && (read(ENCRYPTION).eax & ENCRYPTED_MODES) !== 0;
}
