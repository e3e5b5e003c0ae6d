import { constants } from "node:os";
import { PvbusError, type PvbusErrorCode, type PvbusErrorDetails, pvbusError } from "./errors.js";
import { ownEntry } from "./own.js";

/** An error of the operating system as Node reports it. */
export type SystemErrorLike = Pick<NodeJS.ErrnoException, "code" | "syscall" | "errno" | "message">;

/** Words for the message of a mapped system error. */
export interface SystemErrorContext extends PvbusErrorDetails {
  /** What could not be done: `cannot write "foo" to pool Guest: /var/lib/hyperv/.kvp_pool_1`. */
  readonly doing: string;
  /** What to do next, by errno; `default` serves the rest. */
  readonly advice?: Readonly<Record<string, string>> | undefined;
  /** Codes that differ from the general table for this operation. */
  readonly codes?: Readonly<Record<string, PvbusErrorCode>> | undefined;
}

const CODE_OF_ERRNO: Readonly<Record<string, PvbusErrorCode>> = {
  EACCES: "ERR_PERMISSION",
  EPERM: "ERR_PERMISSION",
  ELOOP: "ERR_PERMISSION",
  EMLINK: "ERR_PERMISSION",
  EROFS: "ERR_READ_ONLY",
  ENOSPC: "ERR_NO_SPACE",
  EDQUOT: "ERR_NO_SPACE",
  EFBIG: "ERR_NO_SPACE",
  EBUSY: "ERR_BUSY",
  EAGAIN: "ERR_BUSY",
  EMFILE: "ERR_BUSY",
  ENFILE: "ERR_BUSY",
  ETIMEDOUT: "ERR_TIMEOUT",
  EPIPE: "ERR_DISCONNECTED",
  ECONNRESET: "ERR_DISCONNECTED",
};

const ADVICE_OF_CODE: Partial<Record<PvbusErrorCode, string>> = {
  ERR_PERMISSION: "run as root or ask the administrator for access",
  ERR_READ_ONLY: "mount the file system read-write",
  ERR_NO_SPACE: "free space on that file system; nothing was lost",
  ERR_BUSY: "try again",
};

/** Reports whether a thrown value is an error of the operating system. */
export function isSystemError(error: unknown): error is SystemErrorLike {
  return (
    error instanceof Error && typeof (error as { code?: unknown }).code === "string" && "syscall" in error
  );
}

/** Makes an error as the operating system's are, of what was found without it. @param path what it is about, if any */
export function systemError(
  code: string,
  what: string,
  syscall: string,
  path?: string,
): NodeJS.ErrnoException {
  if (path === undefined) return Object.assign(new Error(`${code}: ${what}`), { code, syscall });
  return Object.assign(new Error(`${code}: ${what}, ${syscall} '${path}'`), { code, syscall, path });
}

/** Maps an error of the operating system to ours, keeping it as the cause; any other value is returned as it came. */
export function fromSystemError(error: unknown, context: SystemErrorContext): PvbusError | unknown {
  if (!isSystemError(error)) return error;
  const errno = errnoName(error);
  const code = ownEntry(context.codes, errno) ?? ownEntry(CODE_OF_ERRNO, errno) ?? "ERR_UNAVAILABLE";
  const advice = ownEntry(context.advice, errno) ?? context.advice?.["default"] ?? ADVICE_OF_CODE[code];
  return pvbusError(code, `${context.doing} (${errno})${advice ? `; ${advice}` : ""}`, {
    interface: context.interface,
    key: context.key,
    cause: error,
  });
}

/** libuv has no name for some numbers that the system has one for, EDQUOT among them. */
function errnoName({ code = "unknown", errno }: SystemErrorLike): string {
  if (errno === undefined || Object.hasOwn(constants.errno, code)) return code;
  for (const [name, number] of Object.entries(constants.errno)) if (number === -errno) return name;
  return code;
}

/** Reports whether an error, ours or the operating system's, says that there is no room: disk full, quota, file too large. */
export function isNoSpace(error: unknown): boolean {
  if (PvbusError.is(error)) return error.code === "ERR_NO_SPACE";
  return isSystemError(error) && ownEntry(CODE_OF_ERRNO, errnoName(error)) === "ERR_NO_SPACE";
}
