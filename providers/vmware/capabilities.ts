import type { Capabilities } from "../../src/contract/capabilities.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { KEY_PREFIX, MAX_KEY_BYTES, MAX_VALUE_BYTES } from "./protocol/rpci.js";

/** Bytes of a whole command for OpenBSD's driver, its NUL included (OpenBSD sys/dev/pv/vmt.c). */
const VMT_RPC_BUFLEN = 4096;
/** Longest value that every key takes there. */
export const KERNEL_VALUE_BYTES = VMT_RPC_BUFLEN - "info-set ".length - MAX_KEY_BYTES - 2;

/** Longest key and value of a DataSet (Broadcom Guest SDK, "In-Guest Communication Limits"). */
export const DATASET_KEY_BYTES = 4096;
/** Longest value of a DataSet. */
export const DATASET_VALUE_BYTES = 1024 * 1024;

/** What guestinfo can do. The host does not list, and a key that was set stays: it can be emptied only. */
export function guestinfoCapabilities(maxValueBytes: number = MAX_VALUE_BYTES): Capabilities {
  return {
    read: true,
    write: true,
    delete: false,
    list: false,
    watch: true,
    limits: { maxKeyBytes: MAX_KEY_BYTES, maxValueBytes },
  };
}

/** What a DataSet can do. */
export function dataSetCapabilities(): Capabilities {
  return {
    read: true,
    write: true,
    delete: true,
    list: true,
    watch: true,
    limits: { maxKeyBytes: DATASET_KEY_BYTES, maxValueBytes: DATASET_VALUE_BYTES },
  };
}

/** Portable keys are guestinfo keys of the same name in both directions. */
export function guestinfoLayout(chunkBytes: number): PortableLayout {
  const key = (namespace: string, name: string): string => `${KEY_PREFIX}${namespace}.${name}`;
  return { hostKeys: (namespace, name) => [key(namespace, name)], guestKey: key, chunkBytes };
}

/** The same in a DataSet, which has keys of its own. */
export function dataSetLayout(): PortableLayout {
  const key = (namespace: string, name: string): string => `${namespace}/${name}`;
  // What one command surely carries, so that a chunk is never seen in part.
  return { hostKeys: (namespace, name) => [key(namespace, name)], guestKey: key, chunkBytes: 8 * 1024 };
}
