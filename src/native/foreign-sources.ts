import { readdirSync } from "node:fs";
import type { Fact, Facts } from "../detect/facts.js";
import { type Koffi, type KoffiLoader, loadKoffi } from "./koffi.js";

/** Sources of the operating systems that have no /sys and /proc to read. */
export type ForeignSources = Pick<Facts, "sysctl" | "kenv" | "registry" | "pvbusTypes">;

const ABSENT: Fact<never> = { kind: "absent" };
const BUFFER_SIZE = 4096;
/** sysctl names whose value is an int. */
const INTEGERS = new Set(["kern.hv_vmm_present"]);
/** OpenBSD has no sysctl by name: the numbers of those in use (sys/sys/sysctl.h). */
const OPENBSD_MIB: Readonly<Record<string, readonly [number, number]>> = {
  "hw.vendor": [6, 14],
  "hw.product": [6, 15],
};
/** FreeBSD's kenv(2): read one variable (sys/kenv.h). */
const KENV_GET = 0;
/** PVBUSIOC_TYPE on LP64 (OpenBSD sys/dev/pv/pvvar.h). */
const PVBUSIOC_TYPE = 0xc0205603;
/** HKEY_LOCAL_MACHINE, sign-extended; KEY_READ with the 64-bit view (winnt.h). */
const HKEY_LOCAL_MACHINE = 0xffff_ffff_8000_0002n;
const KEY_READ_64 = 0x20119;

/**
 * Gives the sources of an operating system beside files: sysctl and kernel environment of the BSDs and macOS, the
 * registry of Windows, OpenBSD's pvbus devices. None of these systems was at hand: the calls follow their headers and
 * are not verified by a run. Every failure is an answer, none is thrown.
 */
export function foreignSources(platform: NodeJS.Platform, loader: KoffiLoader = loadKoffi): ForeignSources {
  const guarded = (read: (koffi: Koffi) => string | undefined): Fact<string> => {
    try {
      const value = read(loader());
      return value === undefined ? ABSENT : { kind: "value", value };
    } catch (error) {
      return { kind: "unreadable", why: error instanceof Error ? error.message : String(error) };
    }
  };
  const isBsd = ["freebsd", "openbsd", "netbsd", "darwin"].includes(platform);
  return {
    sysctl: (name) => (isBsd ? guarded((koffi) => readSysctl(koffi, platform, name)) : ABSENT),
    kenv: (name) => (platform === "freebsd" ? guarded((koffi) => readKenv(koffi, name)) : ABSENT),
    registry: (key, name) =>
      platform === "win32" ? guarded((koffi) => readRegistry(koffi, key, name)) : ABSENT,
    pvbusTypes: () => (platform === "openbsd" ? readPvbusTypes(guarded) : new Map()),
  };
}

function textIn(buffer: Buffer): string {
  const end = buffer.indexOf(0);
  return buffer.toString("utf8", 0, end < 0 ? buffer.length : end);
}

function readSysctl(koffi: Koffi, platform: NodeJS.Platform, name: string): string | undefined {
  const libc = koffi.load(null);
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const length = [buffer.length];
  let result: number;
  if (platform === "openbsd") {
    const mib = OPENBSD_MIB[name];
    if (mib === undefined) return undefined;
    const sysctl = libc.func("int sysctl(const int *, uint32_t, void *, _Inout_ size_t *, void *, size_t)");
    result = sysctl(Int32Array.from(mib), mib.length, buffer, length, null, 0);
  } else {
    const byName = libc.func("int sysctlbyname(const char *, void *, _Inout_ size_t *, void *, size_t)");
    result = byName(name, buffer, length, null, 0);
  }
  if (result !== 0) return undefined;
  return INTEGERS.has(name) ? String(buffer.readInt32LE(0)) : textIn(buffer);
}

function readKenv(koffi: Koffi, name: string): string | undefined {
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const kenv = koffi.load(null).func("int kenv(int, const char *, void *, int)");
  return kenv(KENV_GET, name, buffer, buffer.length) < 0 ? undefined : textIn(buffer);
}

function readRegistry(koffi: Koffi, key: string, name: string): string | undefined {
  const advapi = koffi.load("advapi32.dll");
  const open = advapi.func("int32_t __stdcall RegOpenKeyExW(uint64_t, void *, uint32_t, uint32_t, void *)");
  const query = advapi.func(
    "int32_t __stdcall RegQueryValueExW(uint64_t, void *, void *, void *, void *, void *)",
  );
  const close = advapi.func("int32_t __stdcall RegCloseKey(uint64_t)");
  const wide = (text: string): Buffer => Buffer.from(`${text}\0`, "utf16le");
  const handle = Buffer.alloc(8);
  if (open(HKEY_LOCAL_MACHINE, wide(key.replace(/^HKLM\\/, "")), 0, KEY_READ_64, handle) !== 0)
    return undefined;
  try {
    const type = Buffer.alloc(4);
    const size = Buffer.alloc(4);
    const data = Buffer.alloc(BUFFER_SIZE);
    size.writeUInt32LE(data.length);
    if (query(handle.readBigUInt64LE(), wide(name), null, type, data, size) !== 0) return undefined;
    return data.toString("utf16le", 0, size.readUInt32LE() & ~1).split("\0", 1)[0];
  } finally {
    close(handle.readBigUInt64LE());
  }
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

/** struct pvbus_req on LP64: key length and pointer, value length and pointer, 8 bytes each. */
function readPvbusType(koffi: Koffi, path: string): string | undefined {
  const libc = koffi.load(null);
  const open = libc.func("int open(const char *, int, ...)");
  const ioctl = libc.func("int ioctl(int, ulong, ...)");
  const close = libc.func("int close(int)");
  const fd: number = open(path, 0);
  if (fd < 0) return undefined;
  try {
    const name = Buffer.alloc(64);
    const request = Buffer.alloc(32);
    request.writeBigUInt64LE(BigInt(name.length), 0);
    request.writeBigUInt64LE(BigInt(koffi.address(name)), 8);
    const result: number = ioctl(fd, PVBUSIOC_TYPE, "void *", request);
    return result === 0 ? textIn(name) : undefined;
  } finally {
    close(fd);
  }
}
