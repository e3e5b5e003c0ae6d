import { crc32 } from "node:zlib";
import { isNoSpace } from "../../src/base/system-error.js";
import {
  decodeRecord,
  encodeRecord,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  RECORD_SIZE,
  scrubRecord,
} from "./codec.js";
import { borderIn, isDecidedBefore, scrubRecords, splitsKeyFromValue, wholeRecords } from "./pool-layout.js";
import { encodeNote, type Gap, MAX_GAPS, NOTE_AT, type Note } from "./pool-note.js";

/*
 * Changes of a pool file, argued in docs/hyperv-pools.md. At every instant of each, whether the writer is killed or, with
 * the barriers observed, the power is cut, every reader finds every other pair whole, and the length a whole number of
 * records; what is unfinished is found by repairPool.
 */

/** Records moved in one step when a gap is closed. */
const RECORDS_PER_MOVE = 96;
/** The same where each step is brought to the disk several times. */
const RECORDS_PER_DURABLE_MOVE = 512;

/** The key field of a slot that is not in use. */
export const NO_KEY = Buffer.alloc(HV_KVP_EXCHANGE_MAX_KEY_SIZE);

const ZEROS = Buffer.alloc(RECORD_SIZE);

/** The bytes of a pool file under an exclusive lock. */
export interface PoolBytes {
  /** Current length. */
  readonly size: number;
  /** Fills the buffer from the offset, or throws. */
  read(into: Buffer, offset: number): void;
  /** Writes all bytes at the offset, page after page, or throws. */
  write(bytes: Uint8Array, offset: number): void;
  /** Shortens the file, or lengthens it by zeros. */
  resize(size: number): void;
}

/**
 * What an edit asks for between two of its steps: `barrier`, what is written so far must be on the disk before what
 * follows (where power cuts count); `turn`, others may run.
 */
export type Pause = "barrier" | "turn";

/** A change in steps; whoever runs it must run it to its end. */
export type Edit<T = void> = Generator<Pause, T, undefined>;

/** Where a chunk of records goes. */
interface Move {
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

/** Returns the number of whole records. */
export function slotCount(pool: PoolBytes): number {
  return wholeRecords(pool.size) / RECORD_SIZE;
}

/**
 * Appends a record, its key last, so that an unfinished one is an unused slot. A failure leaves the file as it was.
 * @returns the record's offset
 */
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
function* publish(pool: PoolBytes, offset: number, record: Buffer): Edit {
  const border = borderIn(offset);
  if (border === undefined) return pool.write(record, offset);
  pool.write(record.subarray(border), offset + border);
  if (!isDecidedBefore(border, record)) yield "barrier";
  pool.write(record.subarray(0, border), offset);
}

/**
 * Returns the record at an offset a new value in place, as one write to one page where the value's text lies on one;
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
function* replaceRecords(pool: PoolBytes, noteSlot: number, records: Buffer, move: Move): Edit {
  const count = records.length / RECORD_SIZE;
  const copiesAt = (noteSlot + 1) * RECORD_SIZE;
  const place = readScrubbed(pool, move.at, count + move.width);
  try {
    pool.resize(copiesAt + records.length);
    writeNote(pool, noteSlot, { ...move, count, sum: crc32(records), before: crc32(place), copies: true });
    pool.write(withoutKeys(records), copiesAt);
    yield "barrier";
    pool.write(records, copiesAt);
    yield "barrier";
  } catch (error) {
    pool.resize(noteSlot * RECORD_SIZE);
    throw error;
  }
  yield* installRecords(pool, records, move.at, place);
  // A power cut may bring them back after they have been cut off, and the note not.
  pool.write(withoutKeys(records), copiesAt);
  yield "barrier";
}

/** Puts records that have copies elsewhere into slots whose records are no longer wanted. */
export function* installRecords(pool: PoolBytes, records: Buffer, slot: number, place: Buffer): Edit {
  const offset = slot * RECORD_SIZE;
  pool.write(withoutKeys(place), offset);
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

function writeNote(pool: PoolBytes, slot: number, note: Note): void {
  pool.write(encodeNote(note), slot * RECORD_SIZE + NOTE_AT);
}

/**
 * Removes records: each loses its key, which is the removal for every reader, then the later ones move down, tails
 * zeroed, and the file is shortened. Of several the last goes last, so that no earlier value of a key comes back.
 * @param offsets of the records to remove, ascending; unused slots may be among them
 * @param durable move so that a power cut loses nothing either
 */
export function* removeRecords(pool: PoolBytes, offsets: readonly number[], durable: boolean): Edit {
  const gaps = runsOf(offsets.map((offset) => offset / RECORD_SIZE));
  let removed = 0;
  for (let done = 0; done < gaps.length; done += MAX_GAPS) {
    // What was removed before has moved the rest down.
    const shift = removed;
    const some = gaps.slice(done, done + MAX_GAPS).map(({ slot, count }) => ({ slot: slot - shift, count }));
    yield* removeGaps(pool, some, durable);
    removed += slotsOf(some);
  }
}

function runsOf(slots: readonly number[]): Gap[] {
  const gaps: { slot: number; count: number }[] = [];
  for (const slot of slots) {
    const last = gaps.at(-1);
    if (last !== undefined && last.slot + last.count === slot) last.count++;
    else gaps.push({ slot, count: 1 });
  }
  return gaps;
}

function slotsOf(gaps: readonly Gap[]): number {
  return gaps.reduce((sum, { count }) => sum + count, 0);
}

function* removeGaps(pool: PoolBytes, gaps: readonly Gap[], durable: boolean): Edit {
  const end = slotCount(pool);
  const left = end - slotsOf(gaps);
  // To shorten the file is one step; a power cut may leave the old length and yet zeros on the pages cut off.
  if (gaps[0]?.slot === left && !durable) return pool.resize(left * RECORD_SIZE);
  // On a full disk there may be no room for the note; a delete, which makes room, goes on without.
  const noted = tryNote(pool, end, { at: 0, count: 0, width: 0, sum: 0, before: 0, copies: false, gaps });
  if (noted) yield "barrier";
  const slots = gaps.flatMap(({ slot, count }) => Array.from({ length: count }, (_, i) => slot + i));
  const last = slots.pop() as number;
  for (const slot of slots) pool.write(NO_KEY, slot * RECORD_SIZE);
  if (slots.length > 0) yield "barrier";
  pool.write(NO_KEY, last * RECORD_SIZE);
  yield "barrier";
  yield* closeGaps(pool, end, gaps, noted, durable);
  // So that what is left above explains itself should the length of before come back without the note.
  pool.write(Buffer.alloc((end - left) * RECORD_SIZE), left * RECORD_SIZE);
  yield "barrier";
  pool.resize(left * RECORD_SIZE);
}

function tryNote(pool: PoolBytes, slot: number, note: Note): boolean {
  try {
    pool.resize((slot + 1) * RECORD_SIZE);
    writeNote(pool, slot, note);
    return true;
  } catch (error) {
    if (!isNoSpace(error)) throw error;
    pool.resize(slot * RECORD_SIZE);
    return false;
  }
}

function* closeGaps(
  pool: PoolBytes,
  end: number,
  gaps: readonly Gap[],
  noted: boolean,
  durable: boolean,
): Edit {
  let byCopies = durable && noted;
  const shadowed = byCopies ? yield* shadowedSlots(pool, (gaps[0] as Gap).slot, end) : new Set<number>();
  const largest = (byCopies ? RECORDS_PER_DURABLE_MOVE : RECORDS_PER_MOVE) + slotsOf(gaps);
  const room = Buffer.allocUnsafe(largest * RECORD_SIZE);
  let width = 0;
  for (const [index, gap] of gaps.entries()) {
    width += gap.count;
    const next = gaps[index + 1]?.slot ?? end;
    for (let source = gap.slot + gap.count; source < next; ) {
      const most = byCopies ? RECORDS_PER_DURABLE_MOVE : RECORDS_PER_MOVE;
      let count = Math.min(most, next - source);
      // Without copies the slots below still hold what has moved: a step needs an unused one.
      const alone = byCopies && shadowed.has(source);
      for (let i = 0; byCopies && i < count; i++) if (shadowed.has(source + i)) count = Math.max(i, 1);
      const place = readSlot(pool, source - width, count + width, room);
      const records = Buffer.from(place.subarray(width * RECORD_SIZE));
      scrubRecords(records);
      const move = { at: source - width, width, gaps: gaps.slice(index + 1) };
      if (byCopies && !alone) {
        byCopies = yield* moveByCopies(pool, end, records, move);
        if (!byCopies) continue;
      } else {
        const note = (): Note => ({ ...move, count, sum: crc32(records), before: 0, copies: false });
        noted = noted && tryNote(pool, end, note());
        if (alone) yield* step(pool, records, move.at, source);
        else slide(pool, records, move.at, place);
      }
      source += count;
      yield "turn";
    }
  }
}

/**
 * Returns the slots whose key has a later record. A copy at the end of the file would bring their value back for readers to
 * whom the last one counts.
 */
function* shadowedSlots(pool: PoolBytes, from: number, end: number): Edit<Set<number>> {
  const shadowed = new Set<number>();
  const last = new Map<string, number>();
  for (let slot = from; slot < end; slot += RECORDS_PER_MOVE) {
    const chunk = readSlot(pool, slot, Math.min(RECORDS_PER_MOVE, end - slot));
    for (let i = 0; i * RECORD_SIZE < chunk.length; i++) {
      const { key } = decodeRecord(chunk, i * RECORD_SIZE);
      if (key.length === 0) continue;
      const name = Buffer.from(key).toString("latin1");
      const earlier = last.get(name);
      if (earlier !== undefined) shadowed.add(earlier);
      last.set(name, slot + i);
    }
    yield "turn";
  }
  return shadowed;
}

/** Moves one record into an unused slot; it stands in both until the old one loses its key. */
function* step(pool: PoolBytes, record: Buffer, to: number, from: number): Edit {
  yield "barrier";
  yield* publish(pool, to * RECORD_SIZE, record);
  yield "barrier";
  pool.write(NO_KEY, from * RECORD_SIZE);
  yield "barrier";
}

/** @returns false when there is no room for the copies: nothing has moved */
function* moveByCopies(pool: PoolBytes, end: number, records: Buffer, move: Move): Edit<boolean> {
  try {
    yield* replaceRecords(pool, end, records, move);
  } catch (error) {
    if (!isNoSpace(error)) throw error;
    return false;
  }
  pool.resize((end + 1) * RECORD_SIZE);
  yield "barrier";
  return true;
}

/**
 * Writes records over slots whose own records stand further down already, so that a kill between two pages leaves each
 * slot with its old or its new pair. Where one could tear, it loses its key first and gets the new one last. Every write
 * costs a time stamp: as few of them as that allows.
 * @param place what stands there
 */
function slide(pool: PoolBytes, records: Buffer, slot: number, place: Buffer): void {
  const base = slot * RECORD_SIZE;
  const key = Buffer.allocUnsafe(NO_KEY.length);
  let from = 0;
  for (let at = 0; at < records.length; at += RECORD_SIZE) {
    const border = borderIn(base + at);
    if (border === undefined) continue;
    // Old bytes behind the border would be a tail: some readers take tails for a part of the value.
    const behind = place.subarray(at + border, at + RECORD_SIZE);
    const decided = !splitsKeyFromValue(border) && isDecidedBefore(border, records, at);
    if (decided && behind.equals(ZEROS.subarray(0, behind.length))) continue;
    records.copy(key, 0, at);
    records.set(NO_KEY, at);
    pool.write(records.subarray(from, at + RECORD_SIZE), base + from);
    pool.write(key, base + at);
    from = at + RECORD_SIZE;
  }
  if (from < records.length) pool.write(records.subarray(from), base + from);
}

/** Zeroes what follows the strings of every record, in place; the records themselves do not change. */
export function* scrubTails(pool: PoolBytes): Edit {
  const end = slotCount(pool);
  for (let slot = 0; slot < end; slot += RECORDS_PER_MOVE) {
    const chunk = readSlot(pool, slot, Math.min(RECORDS_PER_MOVE, end - slot));
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) {
      if (scrubRecord(chunk, at)) pool.write(chunk.subarray(at, at + RECORD_SIZE), slot * RECORD_SIZE + at);
    }
    yield "turn";
  }
}
