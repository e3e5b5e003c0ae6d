import { pvbusError } from "../../../src/base/errors.js";
import type { KeyLimits } from "../../../src/mdata/server/keys.js";
import { checkKeyLength } from "../../../src/mdata/server/requests.js";

/** What one guest may store, and how it may ask; every figure holds for each guest by itself. */
export interface GuestLimits extends KeyLimits {
  /** Most keys, the host's own included. */
  readonly maxKeys: number;
  /** Most bytes of keys and values together. */
  readonly maxTotalBytes: number;
  /** Most connections at the same time; QEMU's channel is one. */
  readonly maxConnections: number;
}

/** What a guest may do where nothing else is said. */
export const DEFAULT_LIMITS: GuestLimits = {
  maxKeyBytes: 512,
  maxValueBytes: 1024 * 1024,
  maxKeys: 1024,
  maxTotalBytes: 4 * 1024 * 1024,
  maxConnections: 8,
  maxWatches: 64,
};

/** Largest figure that any limit takes: what one record of the log and one frame can hold. */
const MAX_LIMIT = 256 * 1024 * 1024;
/** A record has 16 bits for the length of its key. */
const MAX_KEY_LIMIT = 0xffff;

/**
 * Completes limits.
 * @throws RangeError when one of them is no whole number from 1 to 256 Mi; for `maxKeyBytes` to 65,535
 */
export function completeLimits(limits: Partial<GuestLimits> = {}): GuestLimits {
  const given = Object.entries(limits).filter(([, value]) => value !== undefined);
  const complete: GuestLimits = { ...DEFAULT_LIMITS, ...Object.fromEntries(given) };
  for (const [name, value] of Object.entries(complete)) {
    const most = name === "maxKeyBytes" ? MAX_KEY_LIMIT : MAX_LIMIT;
    if (!Number.isInteger(value) || value < 1 || value > most)
      throw new RangeError(`${name} must be a whole number from 1 to ${most}`);
  }
  return complete;
}

/**
 * Checks a key: some text without control characters (a line end would break a listing), without blanks at its ends
 * (existing servers and clients trim them), within the limit.
 * @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`
 */
export function checkKey(key: string, limits: GuestLimits): void {
  checkKeyLength(key, limits);
  const fault = faultOf(key);
  if (fault !== undefined)
    throw pvbusError("ERR_KEY_INVALID", `the key ${fault}; choose another one`, { key });
}

function faultOf(key: string): string | undefined {
  if (key === "") return "is empty";
  if (/\p{Cc}/u.test(key)) return "holds a control character";
  if (!key.isWellFormed()) return "is no valid Unicode";
  if (key.trim() !== key) return "begins or ends with a blank";
  return undefined;
}

/** Checks a value's size. @throws PvbusError `ERR_VALUE_TOO_LONG` */
export function checkValue(key: string, value: Uint8Array, { maxValueBytes }: GuestLimits): void {
  if (value.length <= maxValueBytes) return;
  throw pvbusError(
    "ERR_VALUE_TOO_LONG",
    `the value of "${key}" has ${value.length} bytes; the host takes ${maxValueBytes} at most`,
    { key },
  );
}

/** What the host's administrator may store for a guest: as much as existing clients read. */
export const ADMINISTRATOR_LIMITS: GuestLimits = {
  ...DEFAULT_LIMITS,
  maxKeyBytes: 1024,
  maxValueBytes: 8 * 1024 * 1024,
  maxKeys: 100_000,
  maxTotalBytes: 64 * 1024 * 1024,
};
