import type { Host } from "./host.js";

const BOOT_ID = "/proc/sys/kernel/random/boot_id";
const MAX_BYTES = 64;

/** Returns Linux' identifier of this boot, a UUID or its digits; undefined elsewhere, and for what is none. */
export function bootId({ files }: Host): string | undefined {
  const text = files.read(BOOT_ID, MAX_BYTES)?.toString("latin1").trim() ?? "";
  return /^(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.test(text) ? text : undefined;
}
