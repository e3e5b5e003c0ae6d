import { pvbusError } from "../../../src/base/errors.js";

/** Beginnings of the keys that a guest may see. */
export const VISIBLE = ["user.", "cloud-init."] as const;
/** Keys whose changes no event tells. */
export const SILENT_PREFIX = "cloud-init.";
/** Key under which the text of `GET /1.0/meta-data` is read; it is in no listing. */
export const META_DATA = "meta-data";
const MAX_KEY_BYTES = 4096;
const LONGEST_SHOWN = 80;

/** What kind of instance this is; it decides how a key gets into a path. */
export type InstanceType = "container" | "virtual-machine";

/** Reports whether a guest may see a key at all. */
export function isVisible(key: string): boolean {
  return VISIBLE.some((front) => key.startsWith(front));
}

/** @throws PvbusError `ERR_KEY_INVALID` for a key that no guest may see, `ERR_KEY_TOO_LONG` */
export function checkKey(key: string): void {
  if (Buffer.byteLength(key) > MAX_KEY_BYTES)
    throw pvbusError("ERR_KEY_TOO_LONG", `the key is longer than ${MAX_KEY_BYTES} bytes; shorten it`);
  if (isVisible(key) || key === META_DATA) return;
  const shown = key.length > LONGEST_SHOWN ? `${key.slice(0, LONGEST_SHOWN)}…` : key;
  throw pvbusError(
    "ERR_KEY_INVALID",
    `LXD and Incus show a guest no key "${shown}"; its keys begin with ${VISIBLE.join(" or ")}`,
  );
}

/**
 * Returns the path of a key. The daemon decodes it once. An agent in a machine decodes it and puts the key as it is into its own
 * request, so that it must be encoded twice there: encoded once, `user.a?b` would give the value of `user.a`.
 */
export function pathOf(key: string, type: InstanceType): string {
  if (key === META_DATA) return "/1.0/meta-data";
  const once = encodeURIComponent(key);
  return `/1.0/config/${type === "container" ? once : encodeURIComponent(once)}`;
}

/** Reports whether a key is the prefix or lies below it, divided by a dot or a slash; empty: all do. */
export function isBelow(key: string, prefix: string): boolean {
  if (!key.startsWith(prefix)) return false;
  const isWhole = prefix === "" || key.length === prefix.length || /[./]$/.test(prefix);
  return isWhole || /[./]/.test(key[prefix.length] ?? "");
}
