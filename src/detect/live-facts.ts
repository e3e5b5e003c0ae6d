import fs from "node:fs";
import { liesWithin } from "../host/confine.js";
import type { Host } from "../host/host.js";
import type { Cpuid, CpuidRegisters } from "../native/cpuid.js";
import { ABSENT, type Fact, type Facts, NO_FOREIGN_SOURCES, unreadable, value } from "./facts.js";
import type { ForeignSources } from "./foreign-sources.js";
import { parseSmbios, type SmbiosTexts } from "./smbios.js";

/** Most bytes that are read of any source; the longest text that a rule needs is far shorter. */
const MAX_BYTES = 1024 * 1024;
const FIRST_BYTES = 4096;
const FADT_HYPERVISOR_ID = { offset: 268, length: 8 };
// O_NONBLOCK: a FIFO in a captured tree must not hang the open.
const READ_FLAGS = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0);

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
        const place = host.path(directory);
        return fs.existsSync(place) && staysInside(host, place) ? fs.readdirSync(place) : [];
      } catch {
        // No such directory, or not ours to read: either way there are no names to go by.
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
    msr: (number) => (host.sysroot === undefined ? readMsr("/dev/cpu/0/msr", number) : ABSENT),
  };
}

function parsed(table: Fact<Buffer>): Fact<SmbiosTexts> {
  return table.kind === "value" ? value(parseSmbios(table.value)) : table;
}

function staysInside(host: Host, path: string): boolean {
  return host.sysroot === undefined || liesWithin(host.sysroot, path);
}

function textIn(bytes: Fact<Buffer>): Fact<string> {
  return bytes.kind === "value" ? value(bytes.value.toString("utf8").replace(/\n$/, "")) : bytes;
}

function readBytes(host: Host, absolute: string): Fact<Buffer> {
  const path = host.path(absolute);
  let fd: number | undefined;
  try {
    // Most of what is asked for is not there, and an exception costs far more than this question.
    if (fs.statSync(path, { throwIfNoEntry: false }) === undefined) return ABSENT;
    if (!staysInside(host, path)) return unreadable(`${path}: a link out of the sysroot`);
    fd = fs.openSync(path, READ_FLAGS);
    const stats = fs.fstatSync(fd);
    if (!stats.isFile()) return value(Buffer.alloc(0));
    let bytes = Buffer.allocUnsafe(FIRST_BYTES);
    let length = 0;
    while (length < MAX_BYTES) {
      if (length === bytes.length) bytes = Buffer.concat([bytes], bytes.length * 4);
      const count = fs.readSync(fd, bytes, length, bytes.length - length, null);
      if (count === 0) break;
      length += count;
    }
    return value(bytes.subarray(0, length));
  } catch (error) {
    const { code = "unknown" } = error as NodeJS.ErrnoException;
    return code === "ENOENT" || code === "ENOTDIR" ? ABSENT : unreadable(`${path}: ${code}`);
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** Linux's msr module: 8 bytes at position number; root only. */
function readMsr(path: string, number: number): Fact<bigint> {
  if (fs.statSync(path, { throwIfNoEntry: false })?.isCharacterDevice() !== true) return ABSENT;
  try {
    const fd = fs.openSync(path, READ_FLAGS);
    try {
      const bytes = Buffer.alloc(8);
      fs.readSync(fd, bytes, 0, 8, number);
      return value(bytes.readBigUInt64LE());
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    return unreadable(`${path}: ${(error as NodeJS.ErrnoException).code ?? "unknown"}`);
  }
}
