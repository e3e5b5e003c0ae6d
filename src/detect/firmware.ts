import { ownEntry } from "../base/own.js";
import type { EvidenceSource } from "../contract/report.js";
import { type Facts, known } from "./facts.js";

/** Names of the SMBIOS fields in FreeBSD's kernel environment. */
export const KENV: Readonly<Record<string, string>> = {
  sys_vendor: "smbios.system.maker",
  product_name: "smbios.system.product",
  product_version: "smbios.system.version",
  bios_vendor: "smbios.bios.vendor",
  bios_version: "smbios.bios.version",
  board_vendor: "smbios.planar.maker",
  chassis_asset_tag: "smbios.chassis.tag",
};

/** The same in Windows' registry. */
export const REGISTRY_KEY = "HKLM\\HARDWARE\\DESCRIPTION\\System\\BIOS";
export const REGISTRY: Readonly<Record<string, string>> = {
  sys_vendor: "SystemManufacturer",
  product_name: "SystemProductName",
  product_version: "SystemVersion",
  bios_vendor: "BIOSVendor",
  bios_version: "BIOSVersion",
  board_vendor: "BaseBoardManufacturer",
};

/** The same in OpenBSD's and NetBSD's sysctl tree. */
export const SYSCTL: Readonly<Record<string, readonly string[]>> = {
  sys_vendor: ["hw.vendor", "machdep.dmi.system-vendor"],
  product_name: ["hw.product", "machdep.dmi.system-product"],
};

/** A firmware text and where it was read. */
export interface FirmwareText {
  /** The text, trimmed; empty where there is none. */
  readonly text: string;
  /** What kind of source gave it. */
  readonly source: EvidenceSource;
  /** Name of the field there. */
  readonly name: string;
}

/** Returns a field of the firmware's tables by its Linux name, from wherever this operating system shows it. */
export function firmwareText(facts: Facts, field: string): FirmwareText {
  const read = (value: string | undefined, source: EvidenceSource, name: string): FirmwareText | undefined =>
    value === undefined ? undefined : { text: value.trim(), source, name };
  const own = read(known(facts.dmi(field)), "dmi", field);
  if (own !== undefined) return own;
  const kenv = ownEntry(KENV, field);
  const registry = ownEntry(REGISTRY, field);
  return (
    (kenv && read(known(facts.kenv(kenv)), "dmi", kenv)) ||
    (registry && read(known(facts.registry(REGISTRY_KEY, registry)), "registry", registry)) ||
    (ownEntry(SYSCTL, field) ?? [])
      .map((name) => read(known(facts.sysctl(name)), "sysctl", name))
      .find(Boolean) || {
      text: "",
      source: "dmi",
      name: field,
    }
  );
}
