import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../base/errors.js";
import type { Capabilities } from "../../contract/capabilities.js";
import type { RawEntry, StoreEntry } from "../../contract/store.js";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();
/** A store that declares no limit takes no more, and nothing smaller than a mebibyte is worth a look before the store's own. */
const LARGEST_VALUE = 64 * 1024 * 1024;
const ALWAYS_ENCODED = 1024 * 1024;

/** Returns bytes as text; what is not valid UTF-8 becomes U+FFFD. */
export function textOf(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Returns a provider's pair as callers see it: as text, and as bytes too where they are no text. */
export function withText({ key, value }: RawEntry): StoreEntry {
  if (value === undefined) return { key };
  const text = textOf(value);
  return isUtf8(value) ? { key, value: text } : { key, value: text, bytes: value };
}

/**
 * Checks what no store can hold in a key.
 * @throws TypeError when it is no string; PvbusError `ERR_KEY_INVALID` for a NUL or a lone surrogate
 */
export function checkText(key: string): void {
  if (typeof key !== "string") throw new TypeError("a key must be a string");
  const invalid = (why: string): Error => pvbusError("ERR_KEY_INVALID", `the key holds a ${why}`);
  if (key.includes("\0")) throw invalid("NUL character; no store can hold it");
  if (!key.isWellFormed()) throw invalid("lone surrogate, which has no encoding; repair the text");
}

/**
 * Returns the bytes of a value to be written.
 * @throws TypeError for any other type; PvbusError `ERR_VALUE_INVALID` for a lone surrogate, and where the store
 * holds text for a NUL or bytes that are not valid UTF-8; `ERR_VALUE_TOO_LONG` for what is too long by far
 */
export function valueBytes(value: string | Uint8Array, { binary = false, limits }: Capabilities): Uint8Array {
  if (typeof value !== "string" && !(value instanceof Uint8Array))
    throw new TypeError("a value must be a string or a Uint8Array");
  // Before anything looks at the value itself: text has at least as many bytes as UTF-16 units.
  const most = limits?.maxValueBytes ?? LARGEST_VALUE;
  if (value.length > Math.max(most, ALWAYS_ENCODED)) {
    const size = `the value has ${value.length} bytes or more, this store takes ${most}`;
    throw pvbusError("ERR_VALUE_TOO_LONG", `${size}; shorten it`);
  }
  const invalid = (why: string): Error => pvbusError("ERR_VALUE_INVALID", `the value ${why}`);
  if (typeof value === "string") {
    if (!value.isWellFormed())
      throw invalid("holds a lone surrogate, which has no encoding; repair the text");
    if (!binary && value.includes("\0"))
      throw invalid("holds a NUL character, which would end it; encode it (base64)");
    return encoder.encode(value);
  }
  if (!binary && value.includes(0)) throw invalid("holds a NUL byte, which would end it; encode it (base64)");
  if (!binary && !isUtf8(value))
    throw invalid("is not valid UTF-8 and this store holds text; encode it (base64)");
  return value;
}

/** The error of a value that the host would keep. */
export function kept(key: string): Error {
  return pvbusError(
    "ERR_READ_ONLY",
    `the host would keep the value of "${key}": this guest cannot erase it; have the host remove it, or take it without requireErase`,
    { key },
  );
}

/** The error of a value that was changed between reading and erasing. */
export function changed(key: string): Error {
  return pvbusError(
    "ERR_CONFLICT",
    `the value of "${key}" was changed while it was being taken, and the new one stays; take it again`,
    { key },
  );
}
