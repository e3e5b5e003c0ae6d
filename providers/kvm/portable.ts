import { namedBelow } from "../../src/base/named-below.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { itemName, oemName, qualifiedKey } from "./protocol/keys.js";
import type { StaticSource } from "./static/source.js";

/** What every metadata channel surely carries in one value. */
export const CHUNK_BYTES = 16 * 1024;

type NativeKey = (namespace: string, name: string) => string;

const CHANNEL_KEY: NativeKey = (namespace, name) => qualifiedKey("meta", `${namespace}/${name}`);
const STATIC_KEYS: Readonly<Record<StaticSource["name"], NativeKey>> = {
  fwcfg: (namespace, name) => qualifiedKey("fwcfg", itemName(namespace, name)),
  smbios: (namespace, name) => qualifiedKey("smbios", `oem/${oemName(namespace, name)}`),
};

/** Returns where portable keys lie. @param statics names of the static sources, in the order in which they are asked */
export function portableLayout(
  hasChannel: boolean,
  statics: readonly StaticSource["name"][],
): PortableLayout {
  const keys = [...(hasChannel ? [CHANNEL_KEY] : []), ...statics.map((source) => STATIC_KEYS[source])];
  return {
    hostKeys: (namespace, name) => keys.map((keyOf) => keyOf(namespace, name)),
    guestKey: hasChannel ? CHANNEL_KEY : () => undefined,
    chunkBytes: CHUNK_BYTES,
    places: (namespace) => ({
      host: keys.map((keyOf) => namedBelow(keyOf(namespace, ""))),
      guest: hasChannel ? namedBelow(CHANNEL_KEY(namespace, "")) : undefined,
    }),
  };
}
