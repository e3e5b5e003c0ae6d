import { pvbusError } from "../../../src/base/errors.js";
import type { PortableLayout } from "../../../src/contract/store.js";
import { decodeName, encodeName, encodePath } from "./names.js";
import { checkLength, childPath } from "./path.js";

/** How native keys stand for XenStore paths. */
export interface KeySyntax {
  /** Returns the path of a key. @throws PvbusError `ERR_KEY_INVALID` */
  pathOf(key: string): string;
  /** Returns what stands for a node's name in a key; undefined where no key can name the node. */
  nameOf(node: string): string | undefined;
  /** Returns the key of a value below a directory, whatever characters the names have. */
  join(directory: string, ...names: readonly string[]): string;
}

/** Names as XenStore takes them. */
const NODE = /^[A-Za-z0-9_@-]+$/;

/** Keys are paths as they are. */
const PLAIN: KeySyntax = {
  pathOf: (key) => key,
  nameOf: (node) => (NODE.test(node) ? node : undefined),
  join: (directory, ...names) => [directory, ...names.map(encodeName)].join("/"),
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
};

/** Returns the syntax of keys, with the option `encodeNames` or without. */
export function keySyntax(encodeNames: boolean): KeySyntax {
  return encodeNames ? ENCODED : PLAIN;
}

/**
 * A node as both sides name it. The domain's own directory has the empty key, since XenStore has no relative path for
 * it; its path is absolute.
 */
export interface Place {
  /** XenStore path. */
  readonly path: string;
  /** Native key. */
  readonly key: string;
}

/** Returns the place of a child; undefined where no key can name it. */
export function childPlace({ path, key }: Place, node: string, syntax: KeySyntax): Place | undefined {
  // The special watches, which oxenstored shows as children of the root.
  if (path === "/" && node.startsWith("@")) return undefined;
  const name = syntax.nameOf(node);
  return name === undefined ? undefined : { path: childPath(path, node), key: childPath(key, name) };
}

/** Takes the final slash from a prefix. */
export function withoutSlash(prefix: string): string {
  return prefix.length > 1 && prefix.endsWith("/") ? prefix.slice(0, -1) : prefix;
}

/**
 * Bytes that a node of a guest surely holds: the C daemon of Xen 4.17 grants 2048, less its header and eight for each
 * permission.
 */
const PORTABLE_VALUE_BYTES = 1900;

/** Where portable keys live: hosts fill `vm-data`, guests may write to `data` on every toolstack. */
export function portableLayout(syntax: KeySyntax, chunkBytes: number = PORTABLE_VALUE_BYTES): PortableLayout {
  return {
    hostKeys: (namespace, name) => [syntax.join("vm-data", namespace, name)],
    guestKey: (namespace, name) => syntax.join("data", namespace, name),
    chunkBytes,
  };
}

/** @throws PvbusError `ERR_KEY_INVALID` for the empty key, which stands for the own directory in listings only */
export function checkKey(key: string): void {
  if (key === "") throw pvbusError("ERR_KEY_INVALID", "the key is empty; name a node");
}
