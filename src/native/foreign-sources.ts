import type { ForeignSources } from "../base/firmware/dmi.js";
import { ABSENT, type Fact, unreadable, value } from "../base/firmware/fact.js";
import { parseSmbios, type SmbiosTexts } from "../base/firmware/smbios.js";
import { upToNul } from "../base/outside-text.js";
import { ownEntry } from "../base/own.js";
import { pvbusPaths, readPvbusType } from "./bsd/pvbus-device.js";
import { loadKoffi } from "./ffi/koffi.js";
import { openLibc } from "./ffi/open-libc.js";
import { readFirmwareTable } from "./windows/firmware-table.js";
import { readRegistry } from "./windows/registry.js";

const WITH_SYSCTL: readonly NodeJS.Platform[] = ["freebsd", "openbsd", "netbsd", "darwin"];
const BUFFER_SIZE = 4096;
/** Reads one variable (FreeBSD sys/kenv.h). */
const KENV_GET = 0;
/** Names whose value is an int. */
const INTEGERS = new Set(["kern.hv_vmm_present"]);
/** OpenBSD has no sysctl by name: the numbers of those in use (sys/sys/sysctl.h). */
const OPENBSD_MIB: Readonly<Record<string, readonly [number, number]>> = {
  "hw.vendor": [6, 14],
  "hw.product": [6, 15],
};

/**
 * Returns the sources of an operating system beside files: sysctl and kernel environment of the BSDs and macOS, the
 * registry and firmware tables of Windows, OpenBSD's pvbus devices. None of these systems was at hand: the calls follow
 * their headers and are not verified by a run. Every failure is an answer, none is thrown.
 */
export function foreignSources(platform: NodeJS.Platform): ForeignSources {
  /** What is not of the system, or not there, is absent. */
  const factOf = <T>(systems: readonly NodeJS.Platform[], read: () => T | undefined): Fact<T> => {
    try {
      const found = systems.includes(platform) ? read() : undefined;
      return found === undefined ? ABSENT : value(found);
    } catch (error) {
      return unreadable(error instanceof Error ? error.message : String(error));
    }
  };
  let firmware: Fact<SmbiosTexts> | undefined;
  return {
    sysctl: (name) => factOf(WITH_SYSCTL, () => readSysctl(platform, name)),
    kenv: (name) => factOf(["freebsd"], () => readKenv(name)),
    registry: (key, name) => factOf(["win32"], () => readRegistry(key, name)),
    ...(platform === "win32" && {
      smbios: () => {
        firmware ??= factOf(["win32"], () => {
          const table = readFirmwareTable(loadKoffi());
          return table && parseSmbios(table);
        });
        return firmware;
      },
    }),
    pvbusTypes: () => {
      const types = new Map<string, string>();
      for (const path of platform === "openbsd" ? pvbusPaths() : []) {
        const fact = factOf(["openbsd"], () => readPvbusType(path));
        if (fact.kind === "value") types.set(path, fact.value);
      }
      return types;
    },
  };
}

/** Reads a sysctl of a BSD or macOS as text; undefined when there is none. */
function readSysctl(platform: NodeJS.Platform, name: string): string | undefined {
  const libc = openLibc();
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const length = Buffer.from(BigUint64Array.of(BigInt(buffer.length)).buffer);
  let result: number;
  if (platform === "openbsd") {
    const mib = ownEntry(OPENBSD_MIB, name);
    if (mib === undefined) return undefined;
    const numbers = Buffer.from(Int32Array.from(mib).buffer);
    const sysctl = libc.function("int sysctl(const void *, uint32_t, void *, void *, void *, size_t)");
    result = sysctl(numbers, mib.length, buffer, length, null, 0);
  } else {
    const byName = libc.function("int sysctlbyname(const char *, void *, void *, void *, size_t)");
    result = byName(name, buffer, length, null, 0);
  }
  if (result !== 0) return undefined;
  return INTEGERS.has(name) ? String(buffer.readInt32LE(0)) : upToNul(buffer).toString();
}

/** Reads a variable of FreeBSD's kernel environment; undefined when there is none. */
function readKenv(name: string): string | undefined {
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const kenv = openLibc().function("int kenv(int, const char *, void *, int)");
  return kenv(KENV_GET, name, buffer, buffer.length) < 0 ? undefined : upToNul(buffer).toString();
}
