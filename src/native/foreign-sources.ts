import { readdirSync } from "node:fs";
import type { ForeignSources } from "../base/firmware/dmi.js";
import { ABSENT, type Fact, unreadable, value } from "../base/firmware/fact.js";
import { parseSmbios, type SmbiosTexts } from "../base/firmware/smbios.js";
import { readPvbusType } from "./bsd/pvbus-device.js";
import { readKenv, readSysctl } from "./bsd/sysctl.js";
import { type Koffi, type KoffiLoader, loadKoffi } from "./ffi/koffi.js";
import { readFirmwareTable } from "./windows/firmware-table.js";
import { readRegistry } from "./windows/registry.js";

/**
 * Returns the sources of an operating system beside files: sysctl and kernel environment of the BSDs and macOS, the
 * registry and firmware tables of Windows, OpenBSD's pvbus devices. None of these systems was at hand: the calls follow
 * their headers and are not verified by a run. Every failure is an answer, none is thrown.
 */
export function foreignSources(platform: NodeJS.Platform, loader: KoffiLoader = loadKoffi): ForeignSources {
  const guarded = <T>(read: (koffi: Koffi) => T | undefined): Fact<T> => {
    try {
      const found = read(loader());
      return found === undefined ? ABSENT : value(found);
    } catch (error) {
      return unreadable(error instanceof Error ? error.message : String(error));
    }
  };
  let firmware: Fact<SmbiosTexts> | undefined;
  const isBsd = ["freebsd", "openbsd", "netbsd", "darwin"].includes(platform);
  return {
    sysctl: (name) => (isBsd ? guarded((koffi) => readSysctl(koffi, platform, name)) : ABSENT),
    kenv: (name) => (platform === "freebsd" ? guarded((koffi) => readKenv(koffi, name)) : ABSENT),
    registry: (key, name) =>
      platform === "win32" ? guarded((koffi) => readRegistry(koffi, key, name)) : ABSENT,
    ...(platform === "win32" && {
      smbios: () => {
        firmware ??= guarded((koffi) => {
          const table = readFirmwareTable(koffi);
          return table && parseSmbios(table);
        });
        return firmware;
      },
    }),
    pvbusTypes: () => (platform === "openbsd" ? readPvbusTypes(guarded) : new Map()),
  };
}

function readPvbusTypes(
  guarded: (read: (koffi: Koffi) => string | undefined) => Fact<string>,
): ReadonlyMap<string, string> {
  const types = new Map<string, string>();
  for (const node of readdirSync("/dev")
    .filter((name) => /^pvbus\d+$/.test(name))
    .sort()) {
    const fact = guarded((koffi) => readPvbusType(koffi, `/dev/${node}`));
    if (fact.kind === "value") types.set(`/dev/${node}`, fact.value);
  }
  return types;
}
