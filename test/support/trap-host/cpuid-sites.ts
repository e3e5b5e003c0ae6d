import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

/** Where a process has a file's executable part. */
export interface Mapping {
  readonly start: bigint;
  readonly end: bigint;
  readonly offset: bigint;
  readonly path: string;
}

/** Returns the executable mappings of a process that are files. */
export function executableMappings(pid: number): readonly Mapping[] {
  const lines = readFileSync(`/proc/${pid}/maps`, "latin1").split("\n");
  return lines.flatMap((line) => {
    const [, start, end, flags, offset, path] =
      /^([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \d+ +(\/.*)$/.exec(line) ?? [];
    if (path === undefined || flags?.[2] !== "x") return [];
    return [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), offset: BigInt(`0x${offset}`), path }];
  });
}

const known = new Map<string, readonly bigint[]>();

/**
 * Returns the offsets in a file at which its code executes CPUID. A disassembler finds them: the same two bytes inside of
 * another instruction must stay.
 */
export function cpuidOffsets(path: string): readonly bigint[] {
  const found = known.get(path) ?? kept(path);
  known.set(path, found);
  return found;
}

/** A large program takes its time: of what lies in the cache of packages, and never changes, the offsets are kept beside it. */
function kept(path: string): readonly bigint[] {
  if (!path.includes("/.lab-cache/")) return disassembled(path);
  const file = `${path}.cpuid`;
  if (existsSync(file)) return readFileSync(file, "latin1").split("\n").filter(Boolean).map(BigInt);
  const offsets = disassembled(path);
  // Others may look for it at the same time.
  writeFileSync(`${file}.${process.pid}`, offsets.join("\n"));
  renameSync(`${file}.${process.pid}`, file);
  return offsets;
}

function disassembled(path: string): readonly bigint[] {
  const headers = run("objdump", ["-h", "-w", path]);
  const sections = [
    ...headers.matchAll(/^ *\d+ (\S+) +([0-9a-f]+) +([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+)/gm),
  ].map(([, , size, address, offset]) => ({
    from: BigInt(`0x${address}`),
    to: BigInt(`0x${address}`) + BigInt(`0x${size}`),
    delta: BigInt(`0x${offset}`) - BigInt(`0x${address}`),
  }));
  const code = run("objdump", ["-d", "--no-show-raw-insn", path]);
  return [...code.matchAll(/^ *([0-9a-f]+):\s+cpuid/gm)].map(([, text]) => {
    const address = BigInt(`0x${text}`);
    const section = sections.find(({ from, to }) => address >= from && address < to);
    return address + (section?.delta ?? 0n);
  });
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw error ?? new Error(stderr);
  return stdout;
}
