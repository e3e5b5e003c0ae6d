import { pvbusError } from "../../../src/base/errors.js";

/*
 * Names that XenStore cannot hold: every byte of the name's UTF-8 that is no letter, digit, dash or underscore becomes
 * `@` and two lower-case hexadecimal digits, `@` itself too. So names without such bytes stay as they are, distinct
 * names stay distinct, and no encoded name is taken for another's: `com.example` is `com@2eexample`.
 */

const OTHER = /[^A-Za-z0-9_-]/gu;
const ESCAPES = /(?:@[0-9a-f]{2})+/g;
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Returns a name as XenStore can hold it.
 * @param name any text; slashes are encoded too
 * @throws PvbusError `ERR_KEY_INVALID` for the empty name and for a lone surrogate
 */
export function encodeName(name: string): string {
  if (name === "") throw pvbusError("ERR_KEY_INVALID", "a name is empty; XenStore cannot hold it");
  if (!name.isWellFormed())
    throw pvbusError("ERR_KEY_INVALID", "a name holds a lone surrogate, which has no encoding");
  return name.replace(OTHER, (character) => Buffer.from(character).toString("hex").replace(/../g, "@$&"));
}

/** Returns the name that {@link encodeName} encoded; a name that it would not have made is given as it is. */
export function decodeName(encoded: string): string {
  if (!encoded.includes("@")) return encoded;
  try {
    const name = encoded.replace(ESCAPES, (run) =>
      strict.decode(Buffer.from(run.replaceAll("@", ""), "hex")),
    );
    return encodeName(name) === encoded ? name : encoded;
  } catch {
    // Bytes that are no UTF-8: somebody else's name.
    return encoded;
  }
}

/** Encodes each name of a path; the slash in front of an absolute one stays. @throws as {@link encodeName} */
export function encodePath(path: string): string {
  if (path === "/") return path;
  const absolute = path.startsWith("/");
  const names = (absolute ? path.slice(1) : path).split("/").map(encodeName);
  return `${absolute ? "/" : ""}${names.join("/")}`;
}

/** Decodes each name of a path. */
export function decodePath(path: string): string {
  return path.includes("@") ? path.split("/").map(decodeName).join("/") : path;
}
