import type { CpuidRegisters } from "../base/firmware/cpuid.js";
import type { FirmwareSources, ForeignSources } from "../base/firmware/dmi.js";
import type { Fact } from "../base/firmware/fact.js";
import type { Evidence, EvidenceSource } from "../contract/report.js";

/**
 * What can be seen of one machine. Live and recorded machines answer through the same interface, so that one
 * decision serves both. No method throws.
 */
export interface Facts extends FirmwareSources, Pick<ForeignSources, "pvbusTypes"> {
  /** Operating system: `linux`, `freebsd`, `openbsd`, `netbsd`, `windows`, `darwin`. */
  readonly os: string;
  /** Processor architecture, as `process.arch` names it. */
  readonly arch: string;
  /** Registers of a CPUID leaf, sub-leaf 0. */
  cpuid(leaf: number): Fact<CpuidRegisters>;
  /** Content of a text file by its absolute path; an existing directory has the empty text. */
  file(path: string): Fact<string>;
  names(directory: string): readonly string[];
  /** Bytes 268..275 of the ACPI FADT. */
  fadtHypervisorId(): Fact<string>;
  /** Bit 4 of SMBIOS type 0's second extension byte: the firmware says that this is a virtual machine. */
  smbiosVmBit(): Fact<boolean>;
  /** A model-specific register of the processor. */
  msr(number: number): Fact<bigint>;
}

/** What was found of one interface so far. */
export interface Found {
  role: "guest" | "host";
  base: number | undefined;
  emulated: boolean;
  /** Xen's word for the kind of guest. */
  guestType: string | undefined;
  /** What speaks for it; the words are made when somebody asks for them. */
  readonly clues: (readonly [source: EvidenceSource, detail: () => string])[];
  /** Decodes its facts. */
  describe: (() => Readonly<Record<string, unknown>>) | undefined;
}

/** Collects what speaks for each interface. */
export class Findings {
  readonly byId = new Map<string, Found>();
  /** A hypervisor is there, whatever its name. */
  unexplained = false;
  /** Something is there that only virtual machines have, without a name; it counts where nothing has one. */
  hinted = false;

  /** Whether this is Xen's controlling domain, whose processor may show Xen's own traces. */
  get isControlDomain(): boolean {
    return this.byId.get("xen")?.role === "host";
  }

  add(id: string, source: EvidenceSource, detail: () => string): Found {
    let found = this.byId.get(id);
    if (found === undefined) {
      found = {
        role: "guest",
        base: undefined,
        emulated: false,
        guestType: undefined,
        clues: [],
        describe: undefined,
      };
      this.byId.set(id, found);
    }
    found.clues.push([source, detail]);
    return found;
  }
}

/** Puts clues into words. */
export function evidenceOf({ clues }: Pick<Found, "clues">): Evidence[] {
  return clues.map(([source, detail]) => ({ source, detail: printable(detail()) }));
}

/** Facts are untrusted text: what could steer a terminal is shown escaped. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Returns a 32-bit word as it is written here: `0x40000000`. */
export function hex(word: number): string {
  return `0x${word.toString(16).padStart(8, "0")}`;
}
