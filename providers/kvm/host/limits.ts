import { pvbusError } from "../../../src/base/errors.js";
import type { KeyLimits } from "../../../src/mdata/server/keys.js";
import { checkKeyLength, HOST_NAMESPACE } from "../../../src/mdata/server/requests.js";

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

/** @throws RangeError when one of them is no whole number from 1 to 256 Mi; for `maxKeyBytes` to 65,535 */
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

/** A line end would break a listing; existing servers and clients trim blanks. @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG` */
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
  return key.trim() === key ? undefined : "begins or ends with a blank";
}

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

/** Which keys a guest may change; all of them may be read. */
export interface Namespaces {
  /** Beginnings of keys that only the host changes. */
  readonly readOnly: readonly string[];
  /** Beginnings of keys that the guest may change; undefined where every other key is. */
  readonly writable?: readonly string[] | undefined;
}

/** What a guest may change where nothing else is said: all but the host's own facts. */
export const DEFAULT_NAMESPACES: Namespaces = { readOnly: [HOST_NAMESPACE] };

/** The host's own namespace stays closed whatever the settings say. The words are the reference server's: clients look for them. */
export function checkWritable(key: string, { readOnly, writable }: Namespaces): void {
  const closed = [HOST_NAMESPACE, ...readOnly].find((prefix) => key.startsWith(prefix));
  if (closed !== undefined) throw readOnlyKey(key, closed.replace(/[:./]$/, ""));
  if (writable !== undefined && !writable.some((prefix) => key.startsWith(prefix)))
    throw readOnlyKey(key, /^[^:./]*/.exec(key)?.[0] ?? key);
}

function readOnlyKey(key: string, namespace: string): unknown {
  return pvbusError("ERR_READ_ONLY", `Cannot update the "${namespace}" Namespace.`, { key });
}
