import { crc32 } from "../../../../src/base/crc32.js";
import {
  borderIn,
  encodeRecord,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  isDecidedBefore,
  RECORD_SIZE,
  scrubRecord,
  scrubRecords,
  splitsKeyFromValue,
  wholeRecords,
} from "../../protocol/record.js";
import { encodeNote, type Gap, NOTE_AT, type Note } from "../../protocol/undo-note.js";

/*
 * Changes of a pool file, argued in docs/hyperv-pools.md. At every instant of each, whether the writer is killed or, with
 * the barriers observed, the power is cut, every reader finds every other pair whole, and the length a whole number of
 * records; what is unfinished is found by repairPool.
 */

/** Records that are read or moved in one step. */
export const RECORDS_PER_STEP = 96;

/** The key field of a slot that is not in use. */
export const NO_KEY = Buffer.alloc(HV_KVP_EXCHANGE_MAX_KEY_SIZE);

/** The bytes of a pool file under an exclusive lock. */
export interface PoolBytes {
  readonly size: number;
  /** Fills the buffer from the offset, or throws. */
  read(into: Buffer, offset: number): void;
  /** Writes all bytes at the offset, page after page, or throws. */
  write(bytes: Uint8Array, offset: number): void;
  /** Shortens the file, or lengthens it by zeros. */
  resize(size: number): void;
}

/** What an edit asks for between two steps: `barrier`, what is written goes to the disk before what follows; `turn`, others may run. */
export type Pause = "barrier" | "turn";

/** A change in steps; whoever runs it must run it to its end. */
export type Edit<T = void> = Generator<Pause, T, undefined>;

/** Where a chunk of records goes. */
export interface Move {
  /** First slot that gets one of them. */
  readonly at: number;
  /** How many slots further up they stood. */
  readonly width: number;
  /** What is still to be closed further up. */
  readonly gaps: readonly Gap[];
}

/** Reads records from a slot on. @param into room for them, where one is used again */
export function readSlot(pool: PoolBytes, slot: number, count = 1, into?: Buffer): Buffer {
  const bytes = into?.subarray(0, count * RECORD_SIZE) ?? Buffer.allocUnsafe(count * RECORD_SIZE);
  pool.read(bytes, slot * RECORD_SIZE);
  return bytes;
}

/** Reads records, what follows their strings zeroed. */
export function readScrubbed(pool: PoolBytes, slot: number, count = 1, into?: Buffer): Buffer {
  const records = readSlot(pool, slot, count, into);
  scrubRecords(records);
  return records;
}

/** Returns so many numbers in a row. */
export function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

/** Returns the number of whole records. */
export function slotCount(pool: PoolBytes): number {
  return wholeRecords(pool.size) / RECORD_SIZE;
}

/** Appends a record, its key last, so that an unfinished one is an unused slot. A failure leaves the file as it was. @returns its offset */
export function* appendRecord(pool: PoolBytes, key: Uint8Array, value: Uint8Array): Edit<number> {
  const offset = wholeRecords(pool.size);
  if (pool.size !== offset) pool.resize(offset);
  const record = encodeRecord({ key, value });
  const border = borderIn(offset);
  // A value alone on its page would pass for a pair of the empty key: an empty slot behind it says that it is none.
  const witness = splitsKeyFromValue(border);
  try {
    if (border !== undefined) pool.resize(offset + RECORD_SIZE * (witness ? 2 : 1));
    yield* publish(pool, offset, record);
    if (witness) {
      yield "barrier";
      pool.resize(offset + RECORD_SIZE);
    }
  } catch (error) {
    pool.resize(offset);
    throw error;
  }
  return offset;
}

/** Puts a record into an unused slot: the page of its key comes last and makes it a pair. */
export function* publish(pool: PoolBytes, offset: number, record: Buffer): Edit {
  const border = borderIn(offset);
  if (border === undefined) return pool.write(record, offset);
  pool.write(record.subarray(border), offset + border);
  if (!isDecidedBefore(border, record)) yield "barrier";
  pool.write(record.subarray(0, border), offset);
}

/**
 * Sets the value of the record at an offset in place, as one write to one page where the value's text lies on one;
 * otherwise a copy stands at the end of the file until the value is complete. A failure leaves the record as it was.
 * @param key the record's own
 */
export function* updateRecord(pool: PoolBytes, offset: number, key: Uint8Array, value: Uint8Array): Edit {
  const old = readSlot(pool, offset / RECORD_SIZE);
  const next = encodeRecord({ key, value });
  const border = borderIn(offset);
  const onOnePage =
    border === undefined ||
    splitsKeyFromValue(border) ||
    (isDecidedBefore(border, old) && isDecidedBefore(border, next));
  if (!onOnePage) {
    const end = slotCount(pool);
    yield* replaceRecords(pool, end, next, { at: offset / RECORD_SIZE, width: 0, gaps: [] });
    return pool.resize(end * RECORD_SIZE);
  }
  for (const [from, to] of [
    [0, border ?? RECORD_SIZE],
    [border ?? RECORD_SIZE, RECORD_SIZE],
  ] as const) {
    const part = next.subarray(from, to);
    if (!part.equals(old.subarray(from, to))) pool.write(part, offset + from);
  }
}

/**
 * Puts records in the place of others while copies of them stand behind the note, at the end of the file: no state on
 * the disk between two barriers lacks one. Leaves note and copies for the caller to cut off.
 */
export function* replaceRecords(pool: PoolBytes, noteSlot: number, records: Buffer, move: Move): Edit {
  const count = records.length / RECORD_SIZE;
  const copiesAt = (noteSlot + 1) * RECORD_SIZE;
  const target = readScrubbed(pool, move.at, count + move.width);
  try {
    pool.resize(copiesAt + records.length);
    writeNote(pool, noteSlot, { ...move, count, sum: crc32(records), before: crc32(target), copies: true });
    pool.write(withoutKeys(records), copiesAt);
    yield "barrier";
    pool.write(records, copiesAt);
    yield "barrier";
  } catch (error) {
    pool.resize(noteSlot * RECORD_SIZE);
    throw error;
  }
  yield* installRecords(pool, records, move.at, target);
  // A power cut may bring them back after they have been cut off, and the note not.
  pool.write(withoutKeys(records), copiesAt);
  yield "barrier";
}

/** Puts records that have copies elsewhere into slots whose records are no longer wanted. */
export function* installRecords(pool: PoolBytes, records: Buffer, slot: number, target: Buffer): Edit {
  const offset = slot * RECORD_SIZE;
  pool.write(withoutKeys(target), offset);
  yield "barrier";
  pool.write(withoutKeys(records), offset);
  yield "barrier";
  pool.write(records, offset);
  yield "barrier";
}

function withoutKeys(records: Buffer): Buffer {
  const bytes = Buffer.from(records);
  for (let at = 0; at < bytes.length; at += RECORD_SIZE) bytes.fill(0, at, at + NO_KEY.length);
  return bytes;
}

export function writeNote(pool: PoolBytes, slot: number, note: Note): void {
  pool.write(encodeNote(note), slot * RECORD_SIZE + NOTE_AT);
}

/** Zeroes what follows the strings of every record, in place; the records themselves do not change. */
export function* scrubTails(pool: PoolBytes): Edit {
  const end = slotCount(pool);
  for (let slot = 0; slot < end; slot += RECORDS_PER_STEP) {
    const chunk = readSlot(pool, slot, Math.min(RECORDS_PER_STEP, end - slot));
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) {
      if (scrubRecord(chunk, at)) pool.write(chunk.subarray(at, at + RECORD_SIZE), slot * RECORD_SIZE + at);
    }
    yield "turn";
  }
}
