import { closeSync, constants, readSync } from "node:fs";
import { parseSmbios, type SmbiosTexts } from "../base/firmware/smbios-texts.js";
import { readHeld } from "../base/host/files.js";
import type { Host } from "../base/host/host.js";
import type { Cpuid, CpuidRegisters } from "../native/cpu/cpuid.js";
import type { ForeignSources } from "../native/foreign-sources.js";
import { ABSENT, type Fact, type Facts, NO_FOREIGN_SOURCES, unreadable, value } from "./facts.js";

/** Most bytes that are read of any source; the longest text that a rule needs is far shorter. */
const MAX_BYTES = 1024 * 1024;
const FADT_HYPERVISOR_ID = { offset: 268, length: 8 };
const MSR_DEVICE = "/dev/cpu/0/msr";

/**
 * Facts of the machine that a host stands for, each read once, when it is asked for.
 * @param cpuid how the instruction is executed, or why it is not
 * @param foreign sources of other operating systems than Linux
 */
export function liveFacts(host: Host, cpuid: Cpuid, foreign: ForeignSources = NO_FOREIGN_SOURCES): Facts {
  const seen = new Map<string, Fact<string>>();
  // In a guest every execution leaves to the hypervisor and costs some ten microseconds.
  const leaves = new Map<number, CpuidRegisters>();
  const file = (path: string): Fact<string> => {
    const fact = seen.get(path) ?? textIn(readBytes(host, path));
    seen.set(path, fact);
    return fact;
  };
  return {
    ...foreign,
    os: host.platform === "win32" ? "windows" : host.platform,
    arch: host.arch,
    cpuid: (leaf) => {
      if (!("read" in cpuid)) return unreadable(cpuid.unreadable);
      const registers = leaves.get(leaf) ?? cpuid.read(leaf);
      leaves.set(leaf, registers);
      return value(registers);
    },
    dmi: (field) => {
      if (foreign.smbios === undefined) return file(`/sys/class/dmi/id/${field}`);
      const table = foreign.smbios();
      if (table.kind !== "value") return table;
      const text = table.value.texts.get(field);
      return text === undefined ? ABSENT : value(text);
    },
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
      const table = readBytes(host, "/sys/firmware/acpi/tables/FACP");
      if (table.kind !== "value") return table;
      const { offset, length } = FADT_HYPERVISOR_ID;
      return table.value.length < offset + length
        ? ABSENT
        : value(table.value.toString("latin1", offset, offset + length));
    },
    smbiosVmBit: () => {
      const table = foreign.smbios?.() ?? parsed(readBytes(host, "/sys/firmware/dmi/entries/0-0/raw"));
      if (table.kind !== "value") return table;
      return table.value.vmBit === undefined ? ABSENT : value(table.value.vmBit);
    },
    msr: (number) => (host.sysroot === undefined ? readMsr(host, number) : ABSENT),
  };
}

function parsed(table: Fact<Buffer>): Fact<SmbiosTexts> {
  return table.kind === "value" ? value(parseSmbios(table.value)) : table;
}

function textIn(bytes: Fact<Buffer>): Fact<string> {
  return bytes.kind === "value" ? value(bytes.value.toString("utf8").replace(/\n$/, "")) : bytes;
}

/** What is there without being a file, such as a directory, is as an empty one. */
function readBytes(host: Host, absolute: string): Fact<Buffer> {
  try {
    using held = host.files.hold(absolute);
    return held === undefined ? ABSENT : value(readHeld(held, MAX_BYTES));
  } catch (error) {
    return failed(host, absolute, error);
  }
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
    return failed(host, MSR_DEVICE, error);
  }
}

function failed(host: Host, absolute: string, error: unknown): Fact<never> {
  return unreadable(`${host.path(absolute)}: ${(error as NodeJS.ErrnoException).code ?? "unknown"}`);
}
