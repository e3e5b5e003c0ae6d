import { closeSync, constants, readSync } from "node:fs";
import type { Cpuid, CpuidRegisters } from "../base/firmware/cpuid.js";
import { dmiField, type ForeignSources, NO_FOREIGN_SOURCES } from "../base/firmware/dmi.js";
import {
  ABSENT,
  type Fact,
  fileBytes,
  fileText,
  unreadable,
  unreadableFile,
  value,
} from "../base/firmware/fact.js";
import { parseSmbios, type SmbiosTexts } from "../base/firmware/smbios.js";
import type { Host } from "../base/host/host.js";
import type { Facts } from "./facts.js";

const BIOS_FILE = "/sys/firmware/dmi/entries/0-0/raw";
const MSR_DEVICE = "/dev/cpu/0/msr";
const FADT_FILE = "/sys/firmware/acpi/tables/FACP";

/**
 * Facts of the machine that a host stands for, each read once, when it is asked for.
 * @param cpuid how the instruction is executed, or why it is not
 * @param foreign sources of other operating systems than Linux
 */
export function liveFacts(host: Host, cpuid: Cpuid, foreign: ForeignSources = NO_FOREIGN_SOURCES): Facts {
  const seen = new Map<string, Fact<string>>();
  // In a guest every execution leaves to the hypervisor and costs some ten microseconds.
  const leaves = new Map<number, CpuidRegisters>();
  let fadt: Fact<string> | undefined;
  let bios: Fact<SmbiosTexts> | undefined;
  const file = (path: string): Fact<string> => {
    const fact = seen.get(path) ?? fileText(host, path);
    seen.set(path, fact);
    return fact;
  };
  return {
    // Named one by one: a spread here takes as long as a dozen files that are not there.
    sysctl: foreign.sysctl,
    kenv: foreign.kenv,
    registry: foreign.registry,
    pvbusTypes: foreign.pvbusTypes,
    os: host.platform === "win32" ? "windows" : host.platform,
    arch: host.arch,
    cpuid: (leaf) => {
      if (!("read" in cpuid)) return unreadable(cpuid.unreadable);
      const registers = leaves.get(leaf) ?? cpuid.read(leaf);
      leaves.set(leaf, registers);
      return value(registers);
    },
    dmi: (field) => dmiField(foreign, field, file),
    file,
    names: (directory) => {
      try {
        return host.files.names(directory);
      } catch {
        // Not ours to read: there are no names to go by.
        return [];
      }
    },
    fadtHypervisorId: () => {
      fadt ??= ofValue(fileBytes(host, FADT_FILE), hypervisorIdOf);
      return fadt;
    },
    smbiosVmBit: () => {
      bios ??= foreign.smbios?.() ?? ofValue(fileBytes(host, BIOS_FILE), parseSmbios);
      return ofValue<SmbiosTexts, boolean>(bios, ({ vmBit }) => vmBit);
    },
    msr: (number) => (host.sysroot === undefined ? readMsr(host, number) : ABSENT),
  };
}

/** What a fact's value says, if anything. */
function ofValue<T, U>(fact: Fact<T>, decode: (of: T) => U | undefined): Fact<U> {
  if (fact.kind !== "value") return fact;
  const decoded = decode(fact.value);
  return decoded === undefined ? ABSENT : value(decoded);
}

/** The hypervisor vendor identity, NULs included (ACPI 6.0, FADT bytes 268 to 275); older tables are shorter. */
function hypervisorIdOf(table: Buffer): string | undefined {
  return table.length < 276 ? undefined : table.toString("latin1", 268, 276);
}

/** Linux's msr module: 8 bytes at position number; root only. */
function readMsr(host: Host, number: number): Fact<bigint> {
  if (host.files.kind(MSR_DEVICE) !== "device") return ABSENT;
  try {
    const fd = host.files.open(MSR_DEVICE, { flags: constants.O_RDONLY, kind: "device" });
    try {
      const bytes = Buffer.alloc(8);
      readSync(fd, bytes, 0, 8, number);
      return value(bytes.readBigUInt64LE());
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return unreadableFile(host, MSR_DEVICE, error);
  }
}
