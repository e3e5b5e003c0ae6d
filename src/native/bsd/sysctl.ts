import { ownEntry } from "../../base/own.js";
import type { Koffi } from "../ffi/koffi.js";

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

/** Reads a sysctl of a BSD or macOS as text; undefined when there is none. Not verified by a run. */
export function readSysctl(koffi: Koffi, platform: NodeJS.Platform, name: string): string | undefined {
  const libc = koffi.load(null);
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const length = [buffer.length];
  let result: number;
  if (platform === "openbsd") {
    const mib = ownEntry(OPENBSD_MIB, name);
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

/** Reads a variable of FreeBSD's kernel environment; undefined when there is none. Not verified by a run. */
export function readKenv(koffi: Koffi, name: string): string | undefined {
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const kenv = koffi.load(null).func("int kenv(int, const char *, void *, int)");
  return kenv(KENV_GET, name, buffer, buffer.length) < 0 ? undefined : textIn(buffer);
}

/** Returns the text of a buffer up to its first NUL. */
function textIn(buffer: Buffer): string {
  const end = buffer.indexOf(0);
  return buffer.toString("utf8", 0, end < 0 ? buffer.length : end);
}
