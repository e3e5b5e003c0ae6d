import { RECORD_SIZE } from "../../protocol/record.js";

/** What the file system reports of a file's state: equal stamps of a settled file mean equal content. */
export interface Stamp {
  /** Device and inode. */
  readonly id: string;
  readonly size: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export function sameStamp(a: Stamp | undefined, b: Stamp): boolean {
  if (a === b) return true;
  return a?.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.size === b.size && a.id === b.id;
}

/** A file changed less than this ago may change again without a new time stamp (kernel clock ticks: at most 10 ms). */
const TICK_MS = 50;
/** The same for file systems with coarser stamps; the coarsest stamp every two seconds. */
const COARSE_TICK_MS = 2_100;
/** Stamps that are whole multiples of so many nanoseconds come from such a file system. */
const COARSE_UNIT_NS = 10_000_000n;
/** Ticks of the clocks that file systems stamp with are longer: two stamps closer together come from a finer clock. */
const SHORTEST_TICK_NS = 500_000n;
/** The daemon's C library writes a whole number of these before the rest of a file (Linux tools/hv, fwrite, fclose). */
const DAEMON_WRITE_UNIT = 4096;

/** Reports whether a file has been at rest for so long that its next change must show in its stamp. */
export function isSettled(stamp: Stamp, nowMs: number): boolean {
  const newestMs = Math.max(Number(stamp.mtimeNs / 1_000_000n), Number(stamp.ctimeNs / 1_000_000n));
  const coarse = stamp.mtimeNs % COARSE_UNIT_NS === 0n && stamp.ctimeNs % COARSE_UNIT_NS === 0n;
  return nowMs - newestMs > (coarse ? COARSE_TICK_MS : TICK_MS);
}

/**
 * Reports whether a file's length cannot be that of a rewrite that stands still. The vendor's daemon truncates, writes a
 * multiple of 4096 bytes and then the rest, so an empty, torn or twice divisible length leaves it open whether the
 * rest is still to come.
 */
export function isSurelyWhole({ size }: Stamp): boolean {
  return size % RECORD_SIZE === 0 && size % DAEMON_WRITE_UNIT !== 0;
}

/**
 * Reports from the stamps before, between and after some changes in a row whether every change shows in the stamp (Linux 6.13
 * and later: a change after a look gets a finer time); undefined when they were too far apart to tell.
 */
export function stampsEveryChange(stamps: readonly Stamp[]): boolean | undefined {
  const steps = stamps.slice(1).map(({ ctimeNs }, i) => ctimeNs - (stamps[i] as Stamp).ctimeNs);
  if (steps.some((step) => step === 0n)) return false;
  return steps.some((step) => step > 0n && step < SHORTEST_TICK_NS) ? true : undefined;
}
