/** Stable error codes: the code is the contract, the message may change. One section each in docs/errors.md. */
export type PvbusErrorCode =
  | "ERR_NO_INTERFACE"
  | "ERR_UNAVAILABLE"
  | "ERR_DISCONNECTED"
  | "ERR_NOT_SUPPORTED"
  | "ERR_READ_ONLY"
  | "ERR_PERMISSION"
  | "ERR_KEY_INVALID"
  | "ERR_KEY_TOO_LONG"
  | "ERR_VALUE_INVALID"
  | "ERR_VALUE_TOO_LONG"
  | "ERR_NO_SPACE"
  | "ERR_BUSY"
  | "ERR_TIMEOUT"
  | "ERR_CONFLICT"
  | "ERR_CORRUPT"
  | "ERR_PROTOCOL"
  | "ERR_ABORTED";

/** What an error carries beside its code and message. */
export interface PvbusErrorDetails {
  /** Name of the interface, `pvbus0`; filled in by the interface itself when a provider leaves it out. */
  readonly interface?: string | undefined;
  /** The key as the caller gave it. */
  readonly key?: string | undefined;
  /** The underlying error: a system error with `errno`, `code`, `syscall`, `path`, or the signal's reason. */
  readonly cause?: unknown;
}

const BRAND = Symbol.for("pvbus.PvbusError");

/** Base of every failure that pvbus reports; programming mistakes of the caller are TypeError or RangeError instead. */
export class PvbusError extends Error {
  /** The stable code. */
  readonly code: PvbusErrorCode;
  /** Name of the interface concerned, such as `pvbus0`. */
  interface: string | undefined;
  /** The key concerned, as the caller gave it. */
  key: string | undefined;

  /** @internal Use {@link pvbusError}, which picks the subclass that belongs to the code. */
  constructor(code: PvbusErrorCode, message: string, details: PvbusErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "PvbusError";
    this.code = code;
    this.interface = details.interface;
    this.key = details.key;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Reports whether a value is one of our errors, also when it comes from a second installed copy of pvbus. */
  static is(value: unknown): value is PvbusError {
    return typeof value === "object" && value !== null && (value as Record<symbol, unknown>)[BRAND] === true;
  }
}

/** Nothing to talk to: `ERR_NO_INTERFACE`, `ERR_UNAVAILABLE`, `ERR_DISCONNECTED`. */
export class UnavailableError extends PvbusError {
  /** @internal */
  override name = "UnavailableError";
}
/** It will not do that: `ERR_NOT_SUPPORTED`, `ERR_READ_ONLY`, `ERR_PERMISSION`. */
export class RefusedError extends PvbusError {
  /** @internal */
  override name = "RefusedError";
}
/** Key or value outside what the store holds: `ERR_KEY_*`, `ERR_VALUE_*`, `ERR_NO_SPACE`. */
export class LimitError extends PvbusError {
  /** @internal */
  override name = "LimitError";
}
/** Trying again may help: `ERR_BUSY`, `ERR_TIMEOUT`, `ERR_CONFLICT`. */
export class RetryableError extends PvbusError {
  /** @internal */
  override name = "RetryableError";
}
/** Peer or file broke its format: `ERR_PROTOCOL`, `ERR_CORRUPT`. */
export class FormatError extends PvbusError {
  /** @internal */
  override name = "FormatError";
}
/** The caller's AbortSignal fired: `ERR_ABORTED`; `name` is `AbortError`, the signal's reason is the cause. */
export class AbortedError extends PvbusError {
  /** @internal */
  override name = "AbortError";
}

const CLASS_OF_CODE: Readonly<Record<PvbusErrorCode, typeof PvbusError>> = {
  ERR_NO_INTERFACE: UnavailableError,
  ERR_UNAVAILABLE: UnavailableError,
  ERR_DISCONNECTED: UnavailableError,
  ERR_NOT_SUPPORTED: RefusedError,
  ERR_READ_ONLY: RefusedError,
  ERR_PERMISSION: RefusedError,
  ERR_KEY_INVALID: LimitError,
  ERR_KEY_TOO_LONG: LimitError,
  ERR_VALUE_INVALID: LimitError,
  ERR_VALUE_TOO_LONG: LimitError,
  ERR_NO_SPACE: LimitError,
  ERR_BUSY: RetryableError,
  ERR_TIMEOUT: RetryableError,
  ERR_CONFLICT: RetryableError,
  ERR_CORRUPT: FormatError,
  ERR_PROTOCOL: FormatError,
  ERR_ABORTED: AbortedError,
};

/** Nothing to talk to yet, or no more: that is how it is while a machine starts, and over soon. */
export const NOT_THERE_YET: readonly PvbusErrorCode[] = [
  "ERR_NO_INTERFACE",
  "ERR_UNAVAILABLE",
  "ERR_DISCONNECTED",
];

/** Reports whether a value, from wherever it came, is one of the stable codes. */
export function isErrorCode(value: unknown): value is PvbusErrorCode {
  return typeof value === "string" && Object.hasOwn(CLASS_OF_CODE, value);
}

/** Creates the error of the subclass that belongs to `code`. The message says what, on what, why and what next. */
export function pvbusError(
  code: PvbusErrorCode,
  message: string,
  details: PvbusErrorDetails = {},
): PvbusError {
  return new CLASS_OF_CODE[code](code, message, details);
}
