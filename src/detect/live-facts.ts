import fs from "node:fs";
import type { Host } from "../host/host.js";
import type { Cpuid } from "../native/cpuid.js";
import { ABSENT, type Fact, type Facts, unreadable, value } from "./facts.js";

/** Most bytes that are read of any source; the longest text that a rule needs is far shorter. */
const MAX_BYTES = 1024 * 1024;
const FIRST_BYTES = 4096;
const FADT_HYPERVISOR_ID = { offset: 268, length: 8 };
// O_NONBLOCK: a FIFO in a captured tree must not hang the open.
const READ_FLAGS = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0);

/**
 * Facts of the machine that a host stands for, each read once, when it is asked for.
 * @param cpuid how the instruction is executed, or why it is not
 */
export function liveFacts(host: Host, cpuid: Cpuid): Facts {
  const seen = new Map<string, Fact<string>>();
  const file = (path: string): Fact<string> => {
    const fact = seen.get(path) ?? readText(host.path(path));
    seen.set(path, fact);
    return fact;
  };
  return {
    os: host.platform,
    arch: host.arch,
    cpuid: (leaf) => ("read" in cpuid ? value(cpuid.read(leaf)) : unreadable(cpuid.unreadable)),
    dmi: (field) => file(`/sys/class/dmi/id/${field}`),
    file,
    names: (directory) => {
      try {
        const place = host.path(directory);
        return fs.existsSync(place) ? fs.readdirSync(place) : [];
      } catch {
        // No such directory, or not ours to read: either way there are no names to go by.
        return [];
      }
    },
    fadtHypervisorId: () => {
      const table = readBytes(host.path("/sys/firmware/acpi/tables/FACP"));
      if (table.kind !== "value") return table;
      const { offset, length } = FADT_HYPERVISOR_ID;
      return table.value.length < offset + length
        ? ABSENT
        : value(table.value.toString("latin1", offset, offset + length));
    },
  };
}

function readText(path: string): Fact<string> {
  const bytes = readBytes(path);
  return bytes.kind === "value" ? value(bytes.value.toString("utf8").replace(/\n$/, "")) : bytes;
}

function readBytes(path: string): Fact<Buffer> {
  let fd: number | undefined;
  try {
    // Most of what is asked for is not there, and an exception costs far more than this question.
    if (fs.statSync(path, { throwIfNoEntry: false }) === undefined) return ABSENT;
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
