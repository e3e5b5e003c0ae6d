import { pvbusError } from "../../base/errors.js";

/** Longest file name, in bytes, which file systems take. */
const MAX_FILE_NAME_BYTES = 255;
const PLAIN_BYTES = /^[A-Za-z0-9._-]$/;

/**
 * Returns the environment variable of a key: upper case, what is outside `A-Z0-9_` becomes `_`, and a leading digit gets one
 * in front. Several keys may come to the same variable.
 */
export function variableName(name: string): string {
  // ASCII alone: an ß that becomes SS, or a dotless i, would depend on whose upper case it is.
  const upper = name.replace(/[a-z]/g, (letter) => letter.toUpperCase()).replace(/[^A-Z0-9_]/gu, "_");
  return /^[0-9]/.test(upper) ? `_${upper}` : upper;
}

/**
 * Returns the file name of a key: bytes outside `A-Za-z0-9._-`, and a leading dot, become `%XX`. Distinct keys have distinct
 * names, and none is hidden, leads up or lies deeper.
 * @throws PvbusError `ERR_KEY_TOO_LONG` for what no file system takes
 */
export function fileName(name: string): string {
  let encoded = "";
  for (const byte of Buffer.from(name, "utf8")) {
    const char = String.fromCharCode(byte);
    const isPlain = PLAIN_BYTES.test(char) && !(char === "." && encoded === "");
    encoded += isPlain ? char : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  if (encoded.length <= MAX_FILE_NAME_BYTES) return encoded;
  throw pvbusError(
    "ERR_KEY_TOO_LONG",
    `the file name of the key has ${encoded.length} bytes, ${MAX_FILE_NAME_BYTES} at most; leave the key out, or shorten it`,
    { key: name },
  );
}

/** Reports whether a text is a name that {@link fileName} gives. */
export function isFileName(text: string): boolean {
  return /^(?![.])(?:[A-Za-z0-9._-]|%[0-9A-F]{2}){1,255}$/.test(text);
}

/**
 * Returns what is kept by the name that each key comes to.
 * @param what such a name is, for the message: `the variable`
 * @throws PvbusError `ERR_CONFLICT` when two keys come to one name: neither may take the other's place; `ERR_KEY_INVALID` for an
 * empty one
 */
export function byMadeName<T>(
  content: ReadonlyMap<string, T>,
  what: string,
  makeName: (name: string) => string,
  /** What two names must not share on this system. */
  same: (made: string) => string = (made) => made,
): Map<string, T> {
  const made = new Map<string, T>();
  const owners = new Map<string, string>();
  for (const [name, value] of content) {
    const own = makeName(name);
    if (own === "") throw pvbusError("ERR_KEY_INVALID", `an empty key has no name for ${what}; leave it out`);
    const other = owners.get(same(own));
    if (other !== undefined)
      throw pvbusError(
        "ERR_CONFLICT",
        `the keys ${JSON.stringify(other)} and ${JSON.stringify(name)} both become ${what} ${own}; rename one of them, or name the keys that are wanted`,
        { key: name },
      );
    owners.set(same(own), name);
    made.set(own, value);
  }
  return made;
}
