import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../../src/base/errors.js";

/** Functions of the service (VirtualBox include/VBox/HostServices/GuestPropertySvc.h). */
export const PropertyFunction = { get: 1, set: 2, setValue: 3, delete: 4, enumerate: 5, wait: 6 } as const;

/** Longest name in bytes, its NUL aside. */
export const MAX_NAME_BYTES = 63;
/** Longest value in bytes, its NUL aside. */
export const MAX_VALUE_BYTES = 1023;
/** Longest value of older hosts. */
export const OLD_VALUE_BYTES = 127;
/** So many properties there are at most, VirtualBox's own included. */
export const MAX_PROPERTIES = 256;
/** Longest pattern in bytes, its NUL aside. */
export const MAX_PATTERN_BYTES = 1023;

/** A property's flags, in the order in which the service tells them. */
export type PropertyFlag = "TRANSIENT" | "READONLY" | "RDONLYGUEST" | "RDONLYHOST" | "TRANSRESET";
/** All of them. */
export const PROPERTY_FLAGS: readonly PropertyFlag[] = [
  "TRANSIENT",
  "READONLY",
  "RDONLYGUEST",
  "RDONLYHOST",
  "TRANSRESET",
];

/** One property as it is read or listed. */
export interface Property {
  /** Its name. */
  readonly name: string;
  /** Its value's bytes. */
  readonly value: Uint8Array;
  /** When it was set, in nanoseconds since 1970 by the host's clock; times may come again when that is set back. */
  readonly timestamp: bigint;
  /** Its flags; others than the known ones are left out. */
  readonly flags: readonly PropertyFlag[];
}

/** What a waiter is told; only the name is to be relied upon. */
export interface PropertyEvent {
  readonly name: string;
  readonly value: Uint8Array;
  readonly flags: readonly PropertyFlag[];
  /** Whether the property was there no more when this was told. */
  readonly deleted: boolean;
}

const NUL = 0;
const WILDCARDS = /[*?|]/;
/** Not characters, by VirtualBox's judgement. */
const NO_CHARACTERS = /[\ufffe\uffff]/;

/** Reports whether a text holds what patterns are made of. */
export function hasWildcard(text: string): boolean {
  return WILDCARDS.test(text);
}

/**
 * Checks a name before anything is sent, since the service cuts at a NUL without a word.
 * @returns its bytes with a NUL
 * @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`
 */
export function encodeName(name: string): Buffer {
  if (name === "" || name.includes("\0") || NO_CHARACTERS.test(name) || hasWildcard(name))
    throw pvbusError(
      "ERR_KEY_INVALID",
      "names of guest properties are text that is not empty, without *, ?, | and NUL; choose another name",
    );
  const bytes = Buffer.from(`${name}\0`);
  if (bytes.length - 1 > MAX_NAME_BYTES)
    throw pvbusError(
      "ERR_KEY_TOO_LONG",
      `the name has ${bytes.length - 1} bytes, guest properties take ${MAX_NAME_BYTES}; shorten it`,
    );
  return bytes;
}

/**
 * Checks a value before anything is sent.
 * @returns its bytes with a NUL
 * @throws PvbusError `ERR_VALUE_INVALID`, `ERR_VALUE_TOO_LONG`
 */
export function encodeValue(value: Uint8Array): Buffer {
  if (value.length > MAX_VALUE_BYTES)
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the value has ${value.length} bytes, guest properties take ${MAX_VALUE_BYTES}; publish it as a portable value, which is split`,
    );
  if (value.includes(NUL) || !isUtf8(value) || NO_CHARACTERS.test(Buffer.from(value).toString()))
    throw pvbusError(
      "ERR_VALUE_INVALID",
      "values of guest properties are UTF-8 text without NUL, U+FFFE and U+FFFF; encode it as base64",
    );
  return Buffer.concat([value, Buffer.from([NUL])]);
}

/** Checks flags and writes them as the service takes them. @throws TypeError for one that there is not */
export function encodeFlags(flags: readonly string[]): Buffer {
  for (const flag of flags)
    if (!(PROPERTY_FLAGS as readonly string[]).includes(flag))
      throw new TypeError(`"${flag}" is no flag of guest properties; there are ${PROPERTY_FLAGS.join(", ")}`);
  return Buffer.from(`${flags.join(",")}\0`);
}

/** Reads flags as the service tells them. */
export function decodeFlags(text: string): readonly PropertyFlag[] {
  const told = text.split(",").map((each) => each.trim());
  return PROPERTY_FLAGS.filter((flag) => told.includes(flag));
}

/** Writes a pattern. @throws PvbusError `ERR_KEY_TOO_LONG` for one that the service does not take */
export function encodePattern(pattern: string): Buffer {
  const bytes = Buffer.from(`${pattern}\0`);
  if (bytes.length - 1 > MAX_PATTERN_BYTES)
    throw pvbusError("ERR_KEY_TOO_LONG", `the pattern has more than ${MAX_PATTERN_BYTES} bytes; shorten it`);
  return bytes;
}

/** Reads `value NUL flags NUL`. @throws PvbusError `ERR_PROTOCOL` */
export function decodeValueAndFlags(bytes: Buffer): Pick<Property, "value" | "flags"> {
  const texts = new Texts(bytes);
  const value = Buffer.from(texts.next("value"));
  return { value, flags: decodeFlags(texts.next("flags").toString("latin1")) };
}

/** Reads a listing: `name NUL value NUL time in decimal NUL flags NUL` for each, and four NULs. @throws PvbusError `ERR_PROTOCOL` */
export function* decodeProperties(bytes: Buffer): Generator<Property, void, undefined> {
  const texts = new Texts(bytes);
  for (;;) {
    const name = texts.next("name");
    if (name.length === 0) return;
    const value = Buffer.from(texts.next("value"));
    const time = texts.next("time").toString("latin1");
    if (!/^\d{1,20}$/.test(time)) throw malformed("a time that is no number");
    const flags = decodeFlags(texts.next("flags").toString("latin1"));
    yield { name: name.toString(), value, timestamp: BigInt(time), flags };
  }
}

/** Reads what a waiter is told: `name NUL value NUL flags NUL`, and from newer hosts `0` or `1`. @throws PvbusError `ERR_PROTOCOL` */
export function decodeEvent(bytes: Buffer): PropertyEvent {
  const texts = new Texts(bytes);
  const name = texts.next("name").toString();
  if (name === "") throw malformed("an event without a name");
  const value = Buffer.from(texts.next("value"));
  const flags = decodeFlags(texts.next("flags").toString("latin1"));
  const deleted = texts.atEnd ? false : texts.next("mark").toString("latin1") === "1";
  return { name, value, flags, deleted };
}

/** Texts that end with NUL, one after the other. */
class Texts {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(what: string): Buffer {
    const end = this.#bytes.indexOf(NUL, this.#at);
    if (end < 0) throw malformed(`a ${what} without an end`);
    const text = this.#bytes.subarray(this.#at, end);
    this.#at = end + 1;
    return text;
  }
}

function malformed(what: string): Error {
  return pvbusError("ERR_PROTOCOL", `the host's service of guest properties sent ${what}`);
}
