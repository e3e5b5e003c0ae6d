import { ownEntry } from "../../base/own.js";

/** Texts of OpenBSD's errno values (lib/libc/gen/errlist.c), which differ from Linux's. */
const TEXTS: Readonly<Record<string, string>> = {
  EPERM: "Operation not permitted",
  ENOENT: "No such file or directory",
  EIO: "Input/output error",
  ENXIO: "Device not configured",
  ENOMEM: "Cannot allocate memory",
  EACCES: "Permission denied",
  EBUSY: "Device busy",
  EEXIST: "File exists",
  ENODEV: "Operation not supported by device",
  ENOTDIR: "Not a directory",
  EISDIR: "Is a directory",
  EINVAL: "Invalid argument",
  ENFILE: "Too many open files in system",
  EMFILE: "Too many open files",
  ENOTTY: "Inappropriate ioctl for device",
  ETXTBSY: "Text file busy",
  ENOSPC: "No space left on device",
  EROFS: "Read-only file system",
  ERANGE: "Result too large",
  EAGAIN: "Resource temporarily unavailable",
  EMSGSIZE: "Message too long",
  EOPNOTSUPP: "Operation not supported",
  EISCONN: "Socket is already connected",
  ELOOP: "Too many levels of symbolic links",
  ENAMETOOLONG: "File name too long",
  ENOTEMPTY: "Directory not empty",
  EDQUOT: "Disk quota exceeded",
  ENOSYS: "Function not implemented",
};

/** Returns OpenBSD's text for an errno by name. */
export function errnoText(errno: string): string {
  return ownEntry(TEXTS, errno) ?? `Unknown error: ${errno}`;
}

/*
 * The encoding that hostctl(8) applies to keys and values, vis(3) with VIS_SAFE and VIS_CSTYLE in the C locale.
 * Source: OpenBSD lib/libc/gen/vis.c and ctype_.c (bytes from 0x80 on are never printable).
 */

/** Bytes that stay as they are beside the printable ones: BEL, BS, TAB, LF, CR and space. */
const SAFE = new Set([0x07, 0x08, 0x09, 0x0a, 0x0d, 0x20]);
const BACKSLASH = 0x5c;

/** Returns the text of one byte. */
function encodeByte(byte: number): string {
  if (byte === BACKSLASH) return "\\\\";
  if (SAFE.has(byte) || (byte > 0x20 && byte < 0x7f)) return String.fromCharCode(byte);
  if (byte === 0x0b) return "\\v";
  if (byte === 0x0c) return "\\f";
  if ((byte & 0x7f) === 0x20) return `\\${byte.toString(8)}`;
  const meta = byte & 0x80 ? "M" : "";
  const low = byte & 0x7f;
  if (low < 0x20) return `\\${meta}^${String.fromCharCode(low + 0x40)}`;
  if (low === 0x7f) return `\\${meta}^?`;
  return `\\M-${String.fromCharCode(low)}`;
}

/** Encodes bytes up to their first NUL. */
export function encodeVis(bytes: Uint8Array): Buffer {
  const end = bytes.indexOf(0);
  let text = "";
  for (const byte of end < 0 ? bytes : bytes.subarray(0, end)) text += encodeByte(byte);
  return Buffer.from(text, "latin1");
}
