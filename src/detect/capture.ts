import type { Host } from "../host/host.js";
import { decide } from "./decide.js";
import { factsOf } from "./detect.js";
import { AZURE_ASSET_TAG } from "./environment.js";
import { type Fact, type Facts, known } from "./facts.js";

/** A machine's facts as one JSON document: the `input` of a detection case with `os` and `arch` beside it. */
export type SnapshotDocument = Readonly<Record<string, unknown>>;

/** Options of recording. */
export interface CaptureOptions {
  /** Keep serial numbers, UUIDs and asset tags. Default false. */
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
const IDENTIFIERS = /serial|uuid|asset_tag/;
const REDACTED = "redacted";

/**
 * Records all facts of a machine that detection reads, so that the decision can be replayed anywhere. Identifiers are
 * redacted unless asked for, but for their well-known parts that name a cloud platform.
 */
export async function recordMachine(host: Host, options: CaptureOptions = {}): Promise<SnapshotDocument> {
  const recording = new Recording(await factsOf(host), options.includeIdentifiers === true);
  const { facts } = recording;
  decide(facts);
  for (const field of DMI_FIELDS) facts.dmi(field);
  for (const leaf of CPUID_LEAVES) facts.cpuid(leaf);
  return recording.document();
}

type Section = "dmi" | "files" | "sysctl" | "kenv" | "msr" | "acpi" | "ioctl";

/** Facts that note every answer they give. */
class Recording {
  readonly facts: Facts;
  readonly #keepAll: boolean;
  readonly #leaves: Record<string, unknown> = {};
  readonly #sections: Record<Section, Record<string, unknown>> = {
    dmi: {},
    files: {},
    sysctl: {},
    kenv: {},
    msr: {},
    acpi: {},
    ioctl: {},
  };
  readonly #registry: Record<string, Record<string, string>> = {};
  #vmBit: boolean | null = null;

  constructor(live: Facts, keepAll: boolean) {
    this.#keepAll = keepAll;
    const note = (section: Section, name: string, fact: Fact<string>): Fact<string> => {
      if (fact.kind !== "value") return fact;
      const kept = { kind: "value", value: this.#redact(name, fact.value) } as const;
      this.#sections[section][name] = kept.value;
      return kept;
    };
    this.facts = {
      os: live.os,
      arch: live.arch,
      cpuid: (leaf) => {
        const fact = live.cpuid(leaf);
        const registers = known(fact);
        if (registers !== undefined) {
          this.#leaves[hex(leaf)] = Object.fromEntries(
            Object.entries(registers).map(([name, word]) => [name, hex(word)]),
          );
        }
        return fact;
      },
      dmi: (field) => note("dmi", field, live.dmi(field)),
      file: (path) => note("files", path, live.file(path)),
      names: (directory) => {
        const names = live.names(directory);
        for (const name of names) this.#sections.files[`${directory}/${name}`] ??= null;
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
        if (fact.kind === "value") this.#registry[key] = { ...this.#registry[key], [name]: fact.value };
        return fact;
      },
      pvbusTypes: () => {
        const types = live.pvbusTypes();
        Object.assign(this.#sections.ioctl, Object.fromEntries(types));
        return types;
      },
      msr: (number) => {
        const fact = live.msr(number);
        if (fact.kind === "value")
          this.#sections.msr[hex(number)] = `0x${fact.value.toString(16).padStart(16, "0")}`;
        return fact;
      },
    };
  }

  document(): SnapshotDocument {
    const { dmi, files, ...others } = this.#sections;
    const filled = Object.entries(others).filter(([, section]) => Object.keys(section).length > 0);
    const zeros = { eax: hex(0), ebx: hex(0), ecx: hex(0), edx: hex(0) };
    return {
      os: this.facts.os,
      arch: this.facts.arch,
      cpuid: Object.keys(this.#leaves).length === 0 ? null : { leaves: this.#leaves, missing: zeros },
      dmi: Object.keys(dmi).length === 0 ? null : dmi,
      smbiosVmBit: this.#vmBit,
      files,
      ...Object.fromEntries(filled),
      ...(Object.keys(this.#registry).length === 0 ? {} : { registry: this.#registry }),
    };
  }

  #redact(name: string, text: string): string {
    if (this.#keepAll) return text;
    if (name === "/proc/1/environ") return /(?:^|\0)(container=[^\0]*)/.exec(text)?.[1] ?? "";
    if (name === "/proc/1/cgroup") return text.replace(/[0-9a-f]{12,}/g, (id) => "0".repeat(id.length));
    if (!IDENTIFIERS.test(name) || text === "") return text;
    if (text === AZURE_ASSET_TAG || /^(OracleCloud\.com|OpenStack .*)$/.test(text)) return text;
    return /^(GoogleCloud-|ec2)/i.exec(text)?.[0].concat(REDACTED) ?? REDACTED;
  }
}

function hex(number: number): string {
  return `0x${number.toString(16).padStart(8, "0")}`;
}
