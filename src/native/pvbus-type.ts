import { textIn } from "./c-text.js";
import type { Koffi } from "./koffi.js";

/** PVBUSIOC_TYPE on LP64 (OpenBSD sys/dev/pv/pvvar.h). */
const PVBUSIOC_TYPE = 0xc0205603;
const NAME_SIZE = 64;

/**
 * Asks an OpenBSD pvbus device for its type; undefined when it cannot be opened or has none. The request is struct
 * pvbus_req on LP64: key length and pointer, value length and pointer, 8 bytes each. Not verified by a run.
 */
export function readPvbusType(koffi: Koffi, path: string): string | undefined {
  const libc = koffi.load(null);
  const open = libc.func("int open(const char *, int, ...)");
  const ioctl = libc.func("int ioctl(int, ulong, ...)");
  const close = libc.func("int close(int)");
  const fd: number = open(path, 0);
  if (fd < 0) return undefined;
  try {
    const name = Buffer.alloc(NAME_SIZE);
    const request = Buffer.alloc(32);
    request.writeBigUInt64LE(BigInt(name.length), 0);
    request.writeBigUInt64LE(BigInt(koffi.address(name)), 8);
    const result: number = ioctl(fd, PVBUSIOC_TYPE, "void *", request);
    return result === 0 ? textIn(name) : undefined;
  } finally {
    close(fd);
  }
}
