import { readFileSync } from "node:fs";

/** One mapping of this process's memory. */
export interface Mapping {
  /** Its first address. */
  readonly start: bigint;
  /** The address behind it. */
  readonly end: bigint;
  /** `r-xp` and so on. */
  readonly rights: string;
  /** What is mapped; empty for anonymous memory. */
  readonly name: string;
}

/** Returns the mappings of this process (Linux, proc(5)). @throws a system error without /proc */
export function mappings(): Mapping[] {
  const lines = readFileSync("/proc/self/maps", "latin1").split("\n");
  return lines.flatMap((line) => {
    const match = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)$/.exec(line);
    if (match === null) return [];
    const [, start, end, rights = "", name = ""] = match;
    return [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), rights, name }];
  });
}

/** Returns the mapping that an address is in. */
export function findMapping(all: readonly Mapping[], address: bigint): Mapping | undefined {
  return all.find(({ start, end }) => start <= address && address < end);
}

/** Returns the name that a file of memfd_create(2) has among the mappings. */
export function fileInMemory(name: string): string {
  return `/memfd:${name} (deleted)`;
}
