import { pvbusError } from "../base/errors.js";
import type { CpuidRegisters } from "../base/firmware/cpuid.js";
import { ABSENT, type Fact, unreadable, value } from "../base/firmware/fact.js";
import { ownEntry } from "../base/own.js";
import type { Facts } from "./facts.js";

type Json = Readonly<Record<string, unknown>>;

/**
 * Facts of a recorded machine: the `input` of a detection case with `os` and `arch` beside it, or a whole case with
 * `input` inside.
 * @throws PvbusError `ERR_CORRUPT` when the document is not of that form
 */
export function snapshotFacts(document: unknown): Facts {
  const outer = object(document, "the snapshot");
  const input = outer["input"] === undefined ? outer : object(outer["input"], "input");
  const os = text(outer["os"] ?? input["os"], "os");
  const arch = text(outer["arch"] ?? input["arch"], "arch");
  const section = (name: string): Json => optional(ownEntry(input, name), name) ?? {};
  const cpuid = recordedCpuid(input["cpuid"]);
  const [dmi, files, acpi] = [section("dmi"), section("files"), section("acpi")];
  const [sysctl, kenv, registry] = [section("sysctl"), section("kenv"), section("registry")];
  const [ioctl, msr] = [section("ioctl"), section("msr")];
  const paths = Object.keys(files);
  const isDirectory = directoriesOf(paths);
  return {
    os,
    arch,
    cpuid,
    dmi: (field) => entry(dmi, field),
    file: (path) => {
      const content = entry(files, path);
      if (content.kind !== "absent") return content;
      return isDirectory(path) ? value("") : ABSENT;
    },
    names: (directory) => {
      const below = paths.filter((path) => path.startsWith(`${directory}/`));
      return [...new Set(below.map((path) => path.slice(directory.length + 1).split("/", 1)[0] as string))];
    },
    fadtHypervisorId: () => entry(acpi, "fadtHypervisorId"),
    smbiosVmBit: () => (typeof input["smbiosVmBit"] === "boolean" ? value(input["smbiosVmBit"]) : ABSENT),
    sysctl: (name) => entry(sysctl, name),
    kenv: (name) => entry(kenv, name),
    registry: (key, name) => entry(optional(ownEntry(registry, key), `registry ${key}`) ?? {}, name),
    pvbusTypes: () =>
      new Map(Object.entries(ioctl).filter((each): each is [string, string] => typeof each[1] === "string")),
    msr: (number) => {
      const found = entry(msr, `0x${number.toString(16)}`);
      if (found.kind !== "value") return found;
      return /^0x[0-9a-f]{1,16}$/i.test(found.value)
        ? value(BigInt(found.value))
        : unreadable("no 64-bit number");
    },
  };
}

/** Recognises directories by one search each: a snapshot may hold a hundred thousand names to be looked up. */
function directoriesOf(paths: readonly string[]): (path: string) => boolean {
  const sorted = [...paths].sort((a, b) => (a < b ? -1 : 1));
  return (path) => {
    const front = `${path}/`;
    let low = 0;
    for (let high = sorted.length; low < high; ) {
      const middle = (low + high) >>> 1;
      if ((sorted[middle] as string) < front) low = middle + 1;
      else high = middle;
    }
    return sorted[low]?.startsWith(front) === true;
  };
}

function corrupt(what: string): Error {
  return pvbusError("ERR_CORRUPT", `the snapshot is malformed: ${what}; make one with \`pvbus snapshot\``);
}

function object(of: unknown, name: string): Json {
  if (typeof of !== "object" || of === null || Array.isArray(of)) throw corrupt(`${name} is no object`);
  return of as Json;
}

function optional(of: unknown, name: string): Json | undefined {
  return of === undefined || of === null ? undefined : object(of, name);
}

function text(of: unknown, name: string): string {
  if (typeof of !== "string" || of === "") throw corrupt(`${name} is no text`);
  return of;
}

/** A recorded text: null stands for an existing thing without content. */
function entry(of: Json, name: string): Fact<string> {
  if (!Object.hasOwn(of, name)) return ABSENT;
  const found = ownEntry(of, name);
  if (found === null) return value("");
  return typeof found === "string"
    ? value(found.replace(/\n$/, ""))
    : unreadable(`${name} is no text in the snapshot`);
}

function recordedCpuid(of: unknown): (leaf: number) => Fact<CpuidRegisters> {
  const cpuid = optional(of, "cpuid");
  if (cpuid === undefined) return () => unreadable("the snapshot has no CPUID");
  const leaves = new Map<number, CpuidRegisters>();
  for (const [name, registers] of Object.entries(optional(cpuid["leaves"], "cpuid.leaves") ?? {})) {
    leaves.set(word(name, "a CPUID leaf"), fourRegisters(registers, name));
  }
  const zeros = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const missing = cpuid["missing"] === undefined ? zeros : fourRegisters(cpuid["missing"], "cpuid.missing");
  return (leaf) => value(leaves.get(leaf) ?? (leaf >= 0x40000000 && leaf <= 0x4000ffff ? missing : zeros));
}

function fourRegisters(of: unknown, name: string): CpuidRegisters {
  const from = object(of, name);
  const register = (each: string): number => word(ownEntry(from, each), `${name}.${each}`);
  return { eax: register("eax"), ebx: register("ebx"), ecx: register("ecx"), edx: register("edx") };
}

function word(of: unknown, name: string): number {
  if (typeof of !== "string" || !/^0x[0-9a-f]{1,8}$/i.test(of))
    throw corrupt(`${name} is no 32-bit hexadecimal number`);
  return Number(of);
}
