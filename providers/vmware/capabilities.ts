import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import {
  DATASET_KEY_BYTES,
  DATASET_VALUE_BYTES,
  MAX_KEY_BYTES,
  MAX_VALUE_BYTES,
  OPENBSD_VALUE_BYTES,
} from "./protocol/keys.js";

/** Reports whether OpenBSD's own driver moves the commands: on its live machine, unless a channel is named. */
export function usesOpenbsdDevice({ platform, sysroot }: Host, { channel }: StoreTarget): boolean {
  return platform === "openbsd" && sysroot === undefined && channel === undefined;
}

/** Longest value that guestinfo takes on a host. */
export function maxValueBytesOf(host: Host, target: StoreTarget): number {
  return usesOpenbsdDevice(host, target) ? OPENBSD_VALUE_BYTES : MAX_VALUE_BYTES;
}

/** What guestinfo can do. The host does not list, and a key that was set stays: it can be emptied only. */
export function guestinfoCapabilities(maxValueBytes: number): Capabilities {
  const limits = { maxKeyBytes: MAX_KEY_BYTES, maxValueBytes };
  return { read: true, write: true, delete: false, list: false, watch: true, limits };
}

/** What a DataSet can do. */
export function dataSetCapabilities(): Capabilities {
  const limits = { maxKeyBytes: DATASET_KEY_BYTES, maxValueBytes: DATASET_VALUE_BYTES };
  return { read: true, write: true, delete: true, list: true, watch: true, limits };
}
