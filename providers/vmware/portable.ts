import { namedBelow } from "../../src/base/named-below.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { KEY_PREFIX } from "./protocol/keys.js";

/** Far below the limit of guestinfo, so that hosts with smaller ones of their own take them too. */
export const GUESTINFO_CHUNK_BYTES = 32 * 1024;
/** What one command surely carries, so that a chunk is never seen in part. */
const DATASET_CHUNK_BYTES = 8 * 1024;

/** Portable keys are guestinfo keys of the same name in both directions. */
export function guestinfoLayout(maxValueBytes: number): PortableLayout {
  return layout((namespace) => `${KEY_PREFIX}${namespace}.`, Math.min(GUESTINFO_CHUNK_BYTES, maxValueBytes));
}

/** The same in a DataSet, which has keys of its own. */
export function dataSetLayout(): PortableLayout {
  return layout((namespace) => `${namespace}/`, DATASET_CHUNK_BYTES);
}

function layout(prefixOf: (namespace: string) => string, chunkBytes: number): PortableLayout {
  const key = (namespace: string, name: string): string => `${prefixOf(namespace)}${name}`;
  return {
    hostKeys: (namespace, name) => [key(namespace, name)],
    guestKey: key,
    chunkBytes,
    places: (namespace) => {
      const both = namedBelow(prefixOf(namespace));
      return { host: [both], guest: both };
    },
  };
}
