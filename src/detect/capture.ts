import { type Fact, known } from "../base/firmware/fact.js";
import type { Host } from "../base/host/host.js";
import { decide } from "./decide.js";
import { factsOf } from "./detect.js";
import type { Facts } from "./facts.js";
import { keepsName, keepsPath, keptText, keptType, REDACTED, type TextSource } from "./kept-facts.js";

/** A machine's facts as one JSON document: the `input` of a detection case with `os` and `arch` beside it. */
export type SnapshotDocument = Readonly<Record<string, unknown>>;

/** Options of recording. */
export interface CaptureOptions {
  /** Keep everything as it was read: serial numbers, UUIDs, names of hosts, boot messages. Default false. */
  readonly includeIdentifiers?: boolean | undefined;
}

/** Fields recorded beyond those that today's rules read. */
const DMI_FIELDS = [
  "sys_vendor",
  "product_name",
  "product_version",
  "product_family",
  "product_sku",
  "board_vendor",
  "board_name",
  "bios_vendor",
  "bios_version",
  "chassis_vendor",
  "chassis_asset_tag",
  "product_serial",
  "product_uuid",
];
/** Leaves recorded beyond those that today's rules read. */
const CPUID_LEAVES = [
  0, 1, 0x40000000, 0x40000001, 0x40000002, 0x40000003, 0x40000010, 0x40000100, 0x40000101,
];
/**
 * Records all facts of a machine that detection reads, so that the decision can be replayed anywhere. What is kept
 * unless all is asked for stands in kept-facts.ts.
 */
export async function recordMachine(host: Host, options: CaptureOptions = {}): Promise<SnapshotDocument> {
  return recordFacts(await factsOf(host), options);
}

/** Records the facts of one machine, live or recorded: see {@link recordMachine}. */
export function recordFacts(machine: Facts, options: CaptureOptions = {}): SnapshotDocument {
  const recording = new Recording(machine, options.includeIdentifiers === true);
  const { facts } = recording;
  decide(facts);
  for (const field of DMI_FIELDS) facts.dmi(field);
  for (const leaf of CPUID_LEAVES) facts.cpuid(leaf);
  return recording.document();
}

type Section = "dmi" | "files" | "sysctl" | "kenv" | "msr" | "acpi" | "ioctl";

/** Bits of the register of memory encryption that the decision asks for. */
const SEV_BITS = 7n;
/** Names that Node and our sources give to systems and processors. */
const SYSTEMS = ["linux", "freebsd", "openbsd", "netbsd", "windows", "darwin", "sunos", "android", "aix"];
const PROCESSORS = ["x64", "ia32", "arm64", "arm", "riscv64", "ppc64", "s390x", "loong64", "mips", "mipsel"];

/** Facts that note every answer they give. */
class Recording {
  readonly facts: Facts;
  readonly #keepAll: boolean;
  readonly #leaves = new Map<string, unknown>();
  readonly #sections: Readonly<Record<Section, Map<string, unknown>>> = {
    dmi: new Map(),
    files: new Map(),
    sysctl: new Map(),
    kenv: new Map(),
    msr: new Map(),
    acpi: new Map(),
    ioctl: new Map(),
  };
  readonly #registry = new Map<string, Map<string, string>>();
  #vmBit: boolean | null = null;

  constructor(live: Facts, keepAll: boolean) {
    this.#keepAll = keepAll;
    const note = (
      section: Exclude<TextSource, "registry">,
      name: string,
      fact: Fact<string>,
    ): Fact<string> => {
      if (fact.kind === "value") this.#sections[section].set(name, this.#kept(section, name, fact.value));
      return fact;
    };
    this.facts = {
      os: live.os,
      arch: live.arch,
      cpuid: (leaf) => {
        const fact = live.cpuid(leaf);
        const registers = known(fact);
        if (registers !== undefined) {
          const words = Object.entries(registers).map(([name, word]) => [name, hex(word)]);
          this.#leaves.set(hex(leaf), Object.fromEntries(words));
        }
        return fact;
      },
      dmi: (field) => note("dmi", field, live.dmi(field)),
      file: (path) => {
        const fact = live.file(path);
        const isKept = keepAll || keepsPath(path, known(fact) ?? "");
        return isKept ? note("files", path, fact) : fact;
      },
      names: (directory) => {
        const names = live.names(directory);
        const { files } = this.#sections;
        for (const name of names) {
          const path = `${directory}/${name}`;
          if ((keepAll || keepsName(directory, name)) && !files.has(path)) files.set(path, null);
        }
        return names;
      },
      fadtHypervisorId: () => note("acpi", "fadtHypervisorId", live.fadtHypervisorId()),
      smbiosVmBit: () => {
        const fact = live.smbiosVmBit();
        this.#vmBit = known(fact) ?? null;
        return fact;
      },
      sysctl: (name) => note("sysctl", name, live.sysctl(name)),
      kenv: (name) => note("kenv", name, live.kenv(name)),
      registry: (key, name) => {
        const fact = live.registry(key, name);
        if (fact.kind === "value") {
          const values = this.#registry.get(key) ?? new Map<string, string>();
          values.set(name, this.#kept("registry", `${key}\\${name}`, fact.value));
          this.#registry.set(key, values);
        }
        return fact;
      },
      pvbusTypes: () => {
        const types = live.pvbusTypes();
        for (const [device, type] of types) {
          if (keepAll) this.#sections.ioctl.set(device, type);
          else if (/^\/dev\/pvbus\d{1,9}$/.test(device)) this.#sections.ioctl.set(device, keptType(type));
        }
        return types;
      },
      msr: (number) => {
        const fact = live.msr(number);
        if (fact.kind === "value") {
          const bits = keepAll ? fact.value : fact.value & SEV_BITS;
          this.#sections.msr.set(hex(number), `0x${bits.toString(16).padStart(16, "0")}`);
        }
        return fact;
      },
    };
  }

  document(): SnapshotDocument {
    const { dmi, files, ...others } = this.#sections;
    const filled = Object.entries(others).filter(([, section]) => section.size > 0);
    const zeros = { eax: hex(0), ebx: hex(0), ecx: hex(0), edx: hex(0) };
    const named = (name: string, known: readonly string[]): string =>
      this.#keepAll || known.includes(name) ? name : REDACTED;
    return {
      os: named(this.facts.os, SYSTEMS),
      arch: named(this.facts.arch, PROCESSORS),
      cpuid: this.#leaves.size === 0 ? null : { leaves: Object.fromEntries(this.#leaves), missing: zeros },
      dmi: dmi.size === 0 ? null : Object.fromEntries(dmi),
      smbiosVmBit: this.#vmBit,
      files: Object.fromEntries(files),
      ...Object.fromEntries(filled.map(([name, section]) => [name, Object.fromEntries(section)])),
      ...(this.#registry.size === 0
        ? {}
        : {
            registry: Object.fromEntries(
              [...this.#registry].map(([key, values]) => [key, Object.fromEntries(values)]),
            ),
          }),
    };
  }

  #kept(source: TextSource, name: string, text: string): string {
    return this.#keepAll ? text : keptText(source, name, text);
  }
}

function hex(number: number): string {
  return `0x${number.toString(16).padStart(8, "0")}`;
}
