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
