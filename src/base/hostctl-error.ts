import { PvbusError, type PvbusErrorCode } from "./errors.js";

/** Errno names that OpenBSD's pvbus(4) and its drivers answer; hostctl prints their OpenBSD texts. */
export type HostctlErrno =
  | "EPERM"
  | "ENOENT"
  | "EIO"
  | "ENXIO"
  | "ENOMEM"
  | "EACCES"
  | "EBUSY"
  | "EEXIST"
  | "ENODEV"
  | "EISDIR"
  | "EINVAL"
  | "ENOTTY"
  | "ENOSPC"
  | "EROFS"
  | "ERANGE"
  | "EAGAIN"
  | "EMSGSIZE"
  | "EOPNOTSUPP"
  | "EISCONN"
  | "ENAMETOOLONG"
  | "ENOTEMPTY"
  | "ENOSYS";

/** A refusal of the kernel call, as OpenBSD words it by errno. */
export class HostctlError extends Error {
  /** The errno's name. */
  readonly errno: HostctlErrno;
  /** @param errno what the kernel call fails with */
  constructor(errno: HostctlErrno, cause?: unknown) {
    super(errno, cause === undefined ? undefined : { cause });
    this.name = "HostctlError";
    this.errno = errno;
  }
}

const ERRNO_OF_CODE: Readonly<Record<PvbusErrorCode, HostctlErrno>> = {
  ERR_NO_INTERFACE: "ENXIO",
  ERR_UNAVAILABLE: "ENXIO",
  ERR_DISCONNECTED: "ENXIO",
  ERR_NOT_SUPPORTED: "ENXIO",
  ERR_READ_ONLY: "EINVAL",
  ERR_PERMISSION: "EACCES",
  ERR_KEY_INVALID: "EINVAL",
  ERR_KEY_TOO_LONG: "ERANGE",
  ERR_VALUE_INVALID: "EINVAL",
  ERR_VALUE_TOO_LONG: "ERANGE",
  ERR_NO_SPACE: "ENOSPC",
  ERR_BUSY: "EBUSY",
  ERR_TIMEOUT: "EBUSY",
  ERR_CONFLICT: "EAGAIN",
  ERR_CORRUPT: "EIO",
  ERR_PROTOCOL: "EIO",
  ERR_ABORTED: "EBUSY",
};

/** Returns the errno by which a kernel would answer: a HostctlError's own, else the nearest to our code. */
export function hostctlErrnoOf(error: unknown): HostctlErrno {
  if (error instanceof HostctlError) return error.errno;
  if (PvbusError.is(error)) return ERRNO_OF_CODE[error.code];
  throw error;
}
