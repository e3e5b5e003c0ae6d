import { ownEntry } from "../own.js";
import { ABSENT, type Fact, value } from "./fact.js";
import type { SmbiosTexts } from "./smbios.js";

/** A field's names in FreeBSD's kernel environment, in Windows' registry, and in the sysctl trees of OpenBSD and NetBSD. */
export interface FieldNames {
  readonly kenv: string;
  readonly registry?: string;
  readonly sysctl?: readonly string[];
}

/** Where other systems have the fields of Linux' /sys/class/dmi/id. */
export const FIELD_NAMES: Readonly<Record<string, FieldNames>> = {
  sys_vendor: {
    kenv: "smbios.system.maker",
    registry: "SystemManufacturer",
    sysctl: ["hw.vendor", "machdep.dmi.system-vendor"],
  },
  product_name: {
    kenv: "smbios.system.product",
    registry: "SystemProductName",
    sysctl: ["hw.product", "machdep.dmi.system-product"],
  },
  product_version: { kenv: "smbios.system.version", registry: "SystemVersion" },
  bios_vendor: { kenv: "smbios.bios.vendor", registry: "BIOSVendor" },
  bios_version: { kenv: "smbios.bios.version", registry: "BIOSVersion" },
  board_vendor: { kenv: "smbios.planar.maker", registry: "BaseBoardManufacturer" },
  chassis_asset_tag: { kenv: "smbios.chassis.tag" },
};
export const REGISTRY_KEY = "HKLM\\HARDWARE\\DESCRIPTION\\System\\BIOS";

/** Sources of the operating systems that have no /sys and /proc to read. No method throws. */
export interface ForeignSources {
  /** A sysctl by name (FreeBSD, OpenBSD, NetBSD, macOS). */
  sysctl(name: string): Fact<string>;
  /** A kernel environment variable (FreeBSD). */
  kenv(name: string): Fact<string>;
  /** A value of a registry key, `HKLM\\…` (Windows). */
  registry(key: string, name: string): Fact<string>;
  /** Answers of OpenBSD's pvbus devices to the type call, by device. */
  pvbusTypes(): ReadonlyMap<string, string>;
  /** The firmware's SMBIOS table where it is no file. */
  smbios?(): Fact<SmbiosTexts>;
}

/** Sources of a machine that has none of these. */
export const NO_FOREIGN_SOURCES: ForeignSources = {
  sysctl: () => ABSENT,
  kenv: () => ABSENT,
  registry: () => ABSENT,
  pvbusTypes: () => new Map(),
};

/** Where a machine may show the texts of its firmware. */
export type FirmwareSources = Pick<ForeignSources, "sysctl" | "kenv" | "registry"> & {
  /** A field of /sys/class/dmi/id by its file name, without the newline. */
  dmi(field: string): Fact<string>;
};

/** Reads a field of /sys/class/dmi/id, or of the table that stands in for that folder. @param file reads one of its files */
export function dmiField(
  { smbios }: ForeignSources,
  field: string,
  file: (path: string) => Fact<string>,
): Fact<string> {
  const table = smbios?.();
  if (table === undefined) return file(`/sys/class/dmi/id/${field}`);
  if (table.kind !== "value") return table;
  const text = table.value.texts.get(field);
  return text === undefined ? ABSENT : value(text);
}

/** A firmware text and where it was read. */
interface FirmwareText {
  /** The text, trimmed; empty where there is none. */
  readonly text: string;
  readonly source: "dmi" | "registry" | "sysctl";
  readonly name: string;
}

/** Returns a field of the firmware's tables by its Linux name, from wherever this operating system shows it. */
export function firmwareText(sources: FirmwareSources, field: string): FirmwareText {
  const { kenv, registry, sysctl = [] } = ownEntry(FIELD_NAMES, field) ?? {};
  return (
    textIn("dmi", field, sources.dmi(field)) ??
    (kenv === undefined ? undefined : textIn("dmi", kenv, sources.kenv(kenv))) ??
    (registry === undefined
      ? undefined
      : textIn("registry", registry, sources.registry(REGISTRY_KEY, registry))) ??
    firstOf(sysctl, (name) => textIn("sysctl", name, sources.sysctl(name))) ?? {
      text: "",
      source: "dmi",
      name: field,
    }
  );
}

function textIn(source: FirmwareText["source"], name: string, fact: Fact<string>): FirmwareText | undefined {
  return fact.kind === "value" ? { text: fact.value.trim(), source, name } : undefined;
}

function firstOf<T, U>(of: readonly T[], look: (each: T) => U | undefined): U | undefined {
  for (const each of of) {
    const found = look(each);
    if (found !== undefined) return found;
  }
  return undefined;
}
