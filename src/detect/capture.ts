import { type Fact, known } from "../base/firmware/fact.js";
import type { Host } from "../base/host/host.js";
import { putEntry } from "../base/own.js";
import { NAME_LEAF } from "./cpuid.js";
import { decide } from "./decide.js";
import { factsOf } from "./detect.js";
import { PCI_DEVICES } from "./devices.js";
import { type Facts, hex } from "./facts.js";
import { FIRMWARE_FIELDS, keepsName, keptText, keptType, REDACTED, type TextSource } from "./kept-facts.js";

/** A machine's facts as one JSON document: the `input` of a detection case with `os` and `arch` beside it. */
export type SnapshotDocument = Readonly<Record<string, unknown>>;

/** Options of recording. */
export interface CaptureOptions {
  /** Keep everything as it was read: serial numbers, UUIDs, names of hosts, boot messages. Default false. */
  readonly includeIdentifiers?: boolean | undefined;
}

/** Leaves recorded beyond those that today's rules read. */
const CPUID_LEAVES = [
  0,
  1,
  0x40000000,
  0x40000001,
  0x40000002,
  0x40000003,
  0x40000010,
  0x40000100,
  0x40000101,
  NAME_LEAF,
];
/** Bits of the register of memory encryption that the decision asks for. */
const SEV_BITS = 7n;
/** Names that Node and our sources give to systems and processors. */
const SYSTEMS = ["linux", "freebsd", "openbsd", "netbsd", "windows", "darwin", "sunos", "android", "aix"];
const PROCESSORS = ["x64", "ia32", "arm64", "arm", "riscv64", "ppc64", "s390x", "loong64", "mips", "mipsel"];
const ZEROS = { eax: hex(0), ebx: hex(0), ecx: hex(0), edx: hex(0) };

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
  // Asked for everything: what nobody asks for is not looked at.
  JSON.stringify(decide(facts));
  facts.smbiosVmBit();
  facts.file(PCI_DEVICES);
  for (const field of FIRMWARE_FIELDS) facts.dmi(field);
  for (const leaf of CPUID_LEAVES) facts.cpuid(leaf);
  return recording.document();
}

/** Facts that note every answer they give. */
class Recording {
  readonly facts: Facts;
  readonly #keepAll: boolean;
  readonly #sections = {
    leaves: new Map<string, unknown>(),
    dmi: new Map<string, unknown>(),
    files: new Map<string, unknown>(),
    sysctl: new Map<string, unknown>(),
    kenv: new Map<string, unknown>(),
    msr: new Map<string, unknown>(),
    acpi: new Map<string, unknown>(),
    ioctl: new Map<string, unknown>(),
    /** A record for each key. */
    registry: new Map<string, Record<string, unknown>>(),
  };
  #vmBit: boolean | null = null;

  constructor(live: Facts, keepAll: boolean) {
    this.#keepAll = keepAll;
    const { leaves, files, registry, ioctl, msr } = this.#sections;
    const kept = (source: TextSource, name: string, text: string): string =>
      keepAll ? text : keptText(source, name, text);
    const note = (
      section: Exclude<TextSource, "registry">,
      name: string,
      fact: Fact<string>,
    ): Fact<string> => {
      if (fact.kind === "value") this.#sections[section].set(name, kept(section, name, fact.value));
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
          leaves.set(hex(leaf), Object.fromEntries(words));
        }
        return fact;
      },
      dmi: (field) => note("dmi", field, live.dmi(field)),
      file: (path) => note("files", path, live.file(path)),
      names: (directory) => {
        const names = live.names(directory);
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
          const values = registry.get(key) ?? {};
          putEntry(values, name, kept("registry", `${key}\\${name}`, fact.value));
          registry.set(key, values);
        }
        return fact;
      },
      pvbusTypes: () => {
        const types = live.pvbusTypes();
        for (const [device, type] of types)
          if (keepAll) ioctl.set(device, type);
          else if (/^\/dev\/pvbus\d{1,9}$/.test(device)) ioctl.set(device, keptType(type));
        return types;
      },
      msr: (number) => {
        const fact = live.msr(number);
        if (fact.kind === "value") {
          const bits = keepAll ? fact.value : fact.value & SEV_BITS;
          msr.set(hex(number), `0x${bits.toString(16).padStart(16, "0")}`);
        }
        return fact;
      },
    };
  }

  document(): SnapshotDocument {
    const filled = Object.entries(this.#sections).filter(([, section]) => section.size > 0);
    const { leaves, dmi, files, ...others } = Object.fromEntries(
      filled.map(([name, section]) => [name, Object.fromEntries<unknown>(section)]),
    );
    const named = (name: string, known: readonly string[]): string =>
      this.#keepAll || known.includes(name) ? name : REDACTED;
    return {
      os: named(this.facts.os, SYSTEMS),
      arch: named(this.facts.arch, PROCESSORS),
      cpuid: leaves === undefined ? null : { leaves, missing: ZEROS },
      dmi: dmi ?? null,
      smbiosVmBit: this.#vmBit,
      files: files ?? {},
      ...others,
    };
  }
}
