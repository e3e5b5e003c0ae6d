import { pvbusError } from "../../src/base/errors.js";
import { namedBelow } from "../../src/base/named-below.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { MAX_NAME_BYTES, MAX_VALUE_BYTES } from "./protocol/properties.js";

const TOP = "/pvbus/";
/** There are 256 properties for everybody; a longer value would take too many of them. */
const LONGEST_VALUE_BYTES = 16 * 1024;
/** A namespace of one letter leaves no more. */
const LONGEST_NAME_BYTES = MAX_NAME_BYTES - TOP.length - 2;
/** Of a chunk, in docs/portable-keys.md. */
const CHUNK = /^(.*)(__[ab]_\d+)$/s;
/** `__a_17`: no value within the limit has more chunks. */
const LONGEST_CHUNK_MARK = 6;

const prefixOf = (namespace: string): string => `${TOP}${namespace}/`;

/** Returns the key of a name, chunks included. @throws PvbusError `ERR_KEY_TOO_LONG` where it, or another chunk's, would be too long */
export function portableKey(namespace: string, name: string): string {
  const key = `${prefixOf(namespace)}${name}`;
  const [, whole] = CHUNK.exec(key) ?? [];
  // The first chunk is refused where the last one would be: nothing is written by halves.
  const bytes = whole === undefined ? key.length : whole.length + LONGEST_CHUNK_MARK;
  if (bytes <= MAX_NAME_BYTES) return key;
  const room = MAX_NAME_BYTES - TOP.length - 1;
  throw pvbusError(
    "ERR_KEY_TOO_LONG",
    `namespace and name have ${MAX_NAME_BYTES < key.length ? key.length - TOP.length - 1 : (whole ?? key).length - TOP.length - 1} bytes, ` +
      `VirtualBox has room for ${room} together, for ${room - LONGEST_CHUNK_MARK} where the value is split; shorten them`,
  );
}

/** Portable keys are properties below `/pvbus/`, the same in both directions. */
export const PORTABLE_LAYOUT: PortableLayout = {
  hostKeys: (namespace, name) => [portableKey(namespace, name)],
  guestKey: portableKey,
  chunkBytes: MAX_VALUE_BYTES,
  maxNameBytes: LONGEST_NAME_BYTES,
  maxValueBytes: LONGEST_VALUE_BYTES,
  places: (namespace) => {
    const both = namedBelow(prefixOf(namespace));
    return { host: [both], guest: both };
  },
};
