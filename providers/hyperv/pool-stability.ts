import { RECORD_SIZE } from "./codec.js";
import type { Stamp } from "./pool-file.js";

/** A file changed less than this ago may change again without a new time stamp (kernel clock ticks: at most 10 ms). */
const TICK_MS = 50;
/** The same for file systems that stamp in whole or two seconds. */
const COARSE_TICK_MS = 2_100;
/** The daemon's C library writes a whole number of these before the rest of a file (Linux tools/hv, fwrite, fclose). */
const DAEMON_WRITE_UNIT = 4096;

/** Tells whether a file has been at rest for so long that its next change must show in its stamp. */
export function isSettled(stamp: Stamp, nowMs: number): boolean {
  const newestMs = Math.max(Number(stamp.mtimeNs / 1_000_000n), Number(stamp.ctimeNs / 1_000_000n));
  const coarse = stamp.mtimeNs % 1_000_000_000n === 0n && stamp.ctimeNs % 1_000_000_000n === 0n;
  return nowMs - newestMs > (coarse ? COARSE_TICK_MS : TICK_MS);
}

/**
 * Tells whether a file's length cannot be that of a rewrite that stands still. The vendor's daemon truncates, writes a
 * multiple of 4096 bytes and then the rest, so an empty, torn or twice divisible length leaves it open whether the
 * rest is still to come.
 */
export function isSurelyWhole({ size }: Stamp): boolean {
  return size % RECORD_SIZE === 0 && size % DAEMON_WRITE_UNIT !== 0;
}
