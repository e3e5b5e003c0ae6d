import type { Koffi } from "./koffi.js";

const BUFFER_SIZE = 4096;
/** HKEY_LOCAL_MACHINE, sign-extended; KEY_READ with the 64-bit view (winnt.h). */
const HKEY_LOCAL_MACHINE = 0xffff_ffff_8000_0002n;
const KEY_READ_64 = 0x20119;

/** Reads a text value below `HKLM\\`; undefined when there is none. Not verified by a run. */
export function readRegistry(koffi: Koffi, key: string, name: string): string | undefined {
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
