import type { PortableLayout, PortablePrefix } from "../../src/contract/store.js";
import type { KeySyntax } from "./protocol/keys.js";

/**
 * Bytes that a node of a guest surely holds: the C daemon of Xen 4.17 grants 2048, less its header and eight for each
 * permission.
 */
export const PORTABLE_VALUE_BYTES = 1900;

/** Where portable keys live: hosts fill `vm-data`, guests may write to `data` on every toolstack. */
export function portableLayout(syntax: KeySyntax, chunkBytes: number = PORTABLE_VALUE_BYTES): PortableLayout {
  const below = (directory: string, namespace: string): PortablePrefix => {
    const prefix = syntax.join(directory, namespace);
    return {
      prefix,
      nameOf: (key) =>
        key.startsWith(`${prefix}/`) ? syntax.joined(key.slice(prefix.length + 1)) : undefined,
    };
  };
  return {
    hostKeys: (namespace, name) => [syntax.join("vm-data", namespace, name)],
    guestKey: (namespace, name) => syntax.join("data", namespace, name),
    chunkBytes,
    places: (namespace) => ({ host: [below("vm-data", namespace)], guest: below("data", namespace) }),
  };
}
