import { pvbusError } from "../../../src/base/errors.js";
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from "./wire.js";

/** Names of nodes as all daemons take them. */
export const NODE: RegExp = /^[A-Za-z0-9_@-]+$/;
/** Such names, one slash between them, none at the end. */
const PATH = /^(?:\/|\/?[A-Za-z0-9_@-]+(?:\/[A-Za-z0-9_@-]+)*)$/;
const HOME = /^\/local\/domain\/\d+\//;

/** Checks a path as the daemons do, before it is sent. @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG` */
export function checkPath(path: string): void {
  checkLength(path);
  if (!PATH.test(path)) throw badPath(path);
}

/**
 * Checks the path of a node that holds a value: names that begin a path with `@` belong to the special watches.
 * @throws PvbusError as {@link checkPath}
 */
export function checkNodePath(path: string): void {
  checkPath(path);
  if (path.startsWith("@") || path.startsWith("/@")) {
    throw pvbusError("ERR_KEY_INVALID", "a path that begins with @ names a special watch, no node");
  }
}

/**
 * Checks the path of a node that is to be removed.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for `/`: oxenstored would empty the whole store; and as {@link checkPath}
 */
export function checkRemovable(path: string): void {
  checkNodePath(path);
  if (path === "/")
    throw pvbusError("ERR_NOT_SUPPORTED", "the root of XenStore is never removed; name a node");
}

/** Returns the path of a child. */
export function childPath(parent: string, name: string): string {
  return parent === "/" ? `/${name}` : parent === "" ? name : `${parent}/${name}`;
}

/** Reports whether a path is another one or lies below it. */
export function isAtOrBelow(path: string, top: string): boolean {
  return path === top || top === "/" || (path.startsWith(top) && path[top.length] === "/");
}

/** Checks a path's length alone. @throws PvbusError `ERR_KEY_TOO_LONG` */
function checkLength(path: string): void {
  if (path.length <= XENSTORE_REL_PATH_MAX) return;
  const counted = path.startsWith("/") ? path.replace(HOME, "") : path;
  const most = path.startsWith("/") && counted === path ? XENSTORE_ABS_PATH_MAX : XENSTORE_REL_PATH_MAX;
  if (path.length <= XENSTORE_ABS_PATH_MAX && counted.length <= most) return;
  throw pvbusError(
    "ERR_KEY_TOO_LONG",
    `the path has ${path.length} characters; XenStore takes ${XENSTORE_REL_PATH_MAX} behind the domain's own ` +
      `directory and ${XENSTORE_ABS_PATH_MAX} in all, shorten it`,
  );
}

function badPath(path: string): Error {
  let why = "holds characters other than A-Z a-z 0-9 - _ @ and /";
  if (path === "") why = "is empty";
  else if (path.endsWith("/")) why = "ends with a slash";
  else if (path.includes("//")) why = "holds two slashes in a row";
  return pvbusError(
    "ERR_KEY_INVALID",
    `the path ${why}, which XenStore cannot hold; encode such names with encodeName() or the option encodeNames`,
  );
}

/** How native keys stand for XenStore paths. */
export interface KeySyntax {
  /** Returns the path of a key. @throws PvbusError `ERR_KEY_INVALID` */
  pathOf(key: string): string;
  /** Returns what stands for a node's name in a key; undefined where no key can name the node. */
  nameOf(node: string): string | undefined;
  /** Returns the key of a value below a directory, whatever characters the names have. */
  join(directory: string, ...names: readonly string[]): string;
  /** Returns the name that {@link KeySyntax.join} put into a key, whatever characters it has; undefined for what it never made. */
  joined(part: string): string | undefined;
}

const PLAIN: KeySyntax = {
  pathOf: (key) => key,
  nameOf: (node) => (NODE.test(node) ? node : undefined),
  join: (directory, ...names) => [directory, ...names.map(encodeName)].join("/"),
  joined: (part) => {
    const name = decodeName(part);
    return NODE.test(part) && encodeName(name) === part ? name : undefined;
  },
};

/** Each name of a key is encoded in the path. */
const ENCODED: KeySyntax = {
  pathOf: (key) => {
    // An encoded name is no shorter.
    checkLength(key);
    return encodePath(key);
  },
  nameOf: (node) => {
    const name = decodeName(node);
    return NODE.test(node) && encodeName(name) === node ? name : undefined;
  },
  join: (directory, ...names) => [directory, ...names].join("/"),
  joined: (part) => (part.includes("/") ? undefined : part),
};

/** Returns the syntax of keys, with the option `encodeNames` or without. */
export function keySyntax(encodeNames: boolean): KeySyntax {
  return encodeNames ? ENCODED : PLAIN;
}

/**
 * A node as both sides name it. The domain's own directory has the empty key, since XenStore has no relative path for
 * it; its path is absolute.
 */
export interface KeyedPath {
  /** XenStore path. */
  readonly path: string;
  /** Native key. */
  readonly key: string;
}

/** Returns a child by both its names; undefined where no key can name it. */
export function keyedChild({ path, key }: KeyedPath, node: string, syntax: KeySyntax): KeyedPath | undefined {
  // The special watches, which oxenstored shows as children of the root.
  if (path === "/" && node.startsWith("@")) return undefined;
  const name = syntax.nameOf(node);
  return name === undefined ? undefined : { path: childPath(path, node), key: childPath(key, name) };
}

/** Takes the final slash from a prefix. */
export function withoutSlash(prefix: string): string {
  return prefix.length > 1 && prefix.endsWith("/") ? prefix.slice(0, -1) : prefix;
}

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

/** Returns the name that {@link encodeName} encoded; a name that it would not have made is returned as it is. */
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
  const [root, names] = path.startsWith("/") ? ["/", path.slice(1)] : ["", path];
  return root + names.split("/").map(encodeName).join("/");
}

/** Decodes each name of a path. */
export function decodePath(path: string): string {
  return path.includes("@") ? path.split("/").map(decodeName).join("/") : path;
}
