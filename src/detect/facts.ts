import type { CpuidRegisters } from "../native/cpu/cpuid.js";

/** The answer of a source: a value, known absence, or not to be read, which proves nothing. */
export type Fact<T> =
  | { readonly kind: "value"; readonly value: T }
  | { readonly kind: "absent" }
  | { readonly kind: "unreadable"; readonly why: string };

/** Known absence. */
export const ABSENT: Fact<never> = Object.freeze({ kind: "absent" });

/** Makes a value. */
export function value<T>(of: T): Fact<T> {
  return { kind: "value", value: of };
}

/** Makes an unreadable one. */
export function unreadable(why: string): Fact<never> {
  return { kind: "unreadable", why };
}

/**
 * What can be seen of one machine. Live and recorded machines answer through the same interface, so that one
 * decision serves both. No method throws.
 */
export interface Facts {
  /** Operating system: `linux`, `freebsd`, `openbsd`, `netbsd`, `windows`, `darwin`. */
  readonly os: string;
  /** Processor architecture, as `process.arch` names it. */
  readonly arch: string;
  /** Registers of a CPUID leaf, sub-leaf 0. */
  cpuid(leaf: number): Fact<CpuidRegisters>;
  /** A field of /sys/class/dmi/id by its file name, without the newline. */
  dmi(field: string): Fact<string>;
  /** Content of a text file by its absolute path; an existing directory has the empty text. */
  file(path: string): Fact<string>;
  /** Names in a directory. */
  names(directory: string): readonly string[];
  /** Bytes 268..275 of the ACPI FADT. */
  fadtHypervisorId(): Fact<string>;
  /** Bit 4 of SMBIOS type 0's second extension byte: the firmware says that this is a virtual machine. */
  smbiosVmBit(): Fact<boolean>;
  /** A sysctl by name (FreeBSD, OpenBSD, NetBSD, macOS). */
  sysctl(name: string): Fact<string>;
  /** A kernel environment variable (FreeBSD). */
  kenv(name: string): Fact<string>;
  /** A value of a registry key, `HKLM\\…` (Windows). */
  registry(key: string, name: string): Fact<string>;
  /** Answers of OpenBSD's pvbus devices to the type call, by device. */
  pvbusTypes(): ReadonlyMap<string, string>;
  /** A model-specific register of the processor. */
  msr(number: number): Fact<bigint>;
}

/** Answers of a machine that has none of the sources of other operating systems. */
export const NO_FOREIGN_SOURCES: Pick<Facts, "sysctl" | "kenv" | "registry" | "pvbusTypes"> = {
  sysctl: () => ABSENT,
  kenv: () => ABSENT,
  registry: () => ABSENT,
  pvbusTypes: () => new Map(),
};

/** Returns the value of a fact, or undefined. */
export function known<T>(fact: Fact<T>): T | undefined {
  return fact.kind === "value" ? fact.value : undefined;
}

/** Returns the trimmed text of a fact, empty where there is none. */
export function textOf(fact: Fact<string>): string {
  return (known(fact) ?? "").trim();
}
