import { namedBelow } from "../../src/base/named-below.js";
import type { PortableLayout } from "../../src/contract/store.js";

const CHUNK_BYTES = 1 << 20;

/** Where portable keys live: `user.NAMESPACE.NAME`, which the host sets and the guest only reads. */
export const PORTABLE: PortableLayout = {
  hostKeys: (namespace, name) => [`user.${namespace}.${name}`],
  guestKey: () => undefined,
  chunkBytes: CHUNK_BYTES,
  places: (namespace) => ({ host: [namedBelow(`user.${namespace}.`)], guest: undefined }),
};
