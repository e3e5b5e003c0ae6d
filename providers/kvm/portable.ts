import { namedBelow } from "../../src/base/named-below.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { itemName, oemName, qualifiedKey, type SourceName } from "./protocol/keys.js";

/** What every metadata channel surely carries in one value. */
export const CHUNK_BYTES = 16 * 1024;

const KEYS: Readonly<Record<SourceName, (namespace: string, name: string) => string>> = {
  meta: (namespace, name) => qualifiedKey("meta", `${namespace}/${name}`),
  fwcfg: (namespace, name) => qualifiedKey("fwcfg", itemName(namespace, name)),
  smbios: (namespace, name) => qualifiedKey("smbios", `oem/${oemName(namespace, name)}`),
};

/** Returns where portable keys lie. @param sources in the order in which they are asked */
export function portableLayout(sources: readonly SourceName[]): PortableLayout {
  return {
    hostKeys: (namespace, name) => sources.map((source) => KEYS[source](namespace, name)),
    guestKey: sources.includes("meta") ? KEYS.meta : () => undefined,
    chunkBytes: CHUNK_BYTES,
    places: (namespace) => ({
      host: sources.map((source) => namedBelow(KEYS[source](namespace, ""))),
      guest: sources.includes("meta") ? namedBelow(KEYS.meta(namespace, "")) : undefined,
    }),
  };
}
