import { PvbusError, type PvbusErrorCode } from "../base/errors.js";
import type { Call } from "../base/flow/call.js";

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

/**
 * The key-value call of one interface with the semantics of OpenBSD's kernel driver (pvbus(4), `PVBUSIOC_KVREAD` and
 * `PVBUSIOC_KVWRITE`): what hostctl(8) talks to. Source: OpenBSD sys/dev/pv/pvbus.c, vmt.c, xenstore.c, hypervic.c.
 */
export interface HostctlStore {
  /**
   * Reads a key into a buffer of `valueLength` bytes.
   * @returns the value without its NUL
   * @throws HostctlError with the driver's errno, `ERANGE` when the buffer is too small
   */
  read(key: Uint8Array, valueLength: number, call: Call): Promise<Uint8Array>;
  /**
   * Writes a key.
   * @returns what the driver leaves in the value buffer, which hostctl prints
   * @throws HostctlError with the driver's errno
   */
  write(key: Uint8Array, value: Uint8Array, call: Call): Promise<Uint8Array>;
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
