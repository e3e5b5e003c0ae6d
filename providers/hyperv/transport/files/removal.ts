import { crc32 } from "../../../../src/base/crc32.js";
import { isNoSpace } from "../../../../src/base/system-error.js";
import {
  borderIn,
  decodeRecord,
  isDecidedBefore,
  keyName,
  RECORD_SIZE,
  scrubRecords,
  splitsKeyFromValue,
} from "../../protocol/record.js";
import { type Gap, MAX_GAPS, type Note } from "../../protocol/undo-note.js";
import {
  type Edit,
  type Move,
  NO_KEY,
  type PoolBytes,
  publish,
  RECORDS_PER_STEP,
  range,
  readSlot,
  replaceRecords,
  slotCount,
  writeNote,
} from "./edit.js";

/** Records moved in one step where each step is brought to the disk several times. */
const RECORDS_PER_DURABLE_STEP = 512;

const ZEROS = Buffer.alloc(RECORD_SIZE);

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
  const slots = gaps.flatMap(({ slot, count }) => range(slot, count));
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
  const largest = (byCopies ? RECORDS_PER_DURABLE_STEP : RECORDS_PER_STEP) + slotsOf(gaps);
  const room = Buffer.allocUnsafe(largest * RECORD_SIZE);
  let width = 0;
  for (const [index, gap] of gaps.entries()) {
    width += gap.count;
    const next = gaps[index + 1]?.slot ?? end;
    for (let source = gap.slot + gap.count; source < next; ) {
      const most = byCopies ? RECORDS_PER_DURABLE_STEP : RECORDS_PER_STEP;
      let count = Math.min(most, next - source);
      // Without copies the slots below still hold what has moved: a step needs an unused one.
      const alone = byCopies && shadowed.has(source);
      for (let i = 0; byCopies && i < count; i++) if (shadowed.has(source + i)) count = Math.max(i, 1);
      const target = readSlot(pool, source - width, count + width, room);
      const records = Buffer.from(target.subarray(width * RECORD_SIZE));
      scrubRecords(records);
      const move = { at: source - width, width, gaps: gaps.slice(index + 1) };
      if (byCopies && !alone) {
        byCopies = yield* moveByCopies(pool, end, records, move);
        if (!byCopies) continue;
      } else {
        const note = { ...move, count, before: 0, copies: false };
        noted = noted && tryNote(pool, end, { ...note, sum: crc32(records) });
        if (alone) yield* step(pool, records, move.at, source);
        else slide(pool, records, move.at, target);
      }
      source += count;
      yield "turn";
    }
  }
}

/** Returns the slots whose key has a later record. A copy at the end would bring their value back where the last one counts. */
function* shadowedSlots(pool: PoolBytes, from: number, end: number): Edit<Set<number>> {
  const shadowed = new Set<number>();
  const last = new Map<string, number>();
  for (let slot = from; slot < end; slot += RECORDS_PER_STEP) {
    const chunk = readSlot(pool, slot, Math.min(RECORDS_PER_STEP, end - slot));
    for (let i = 0; i * RECORD_SIZE < chunk.length; i++) {
      const { key } = decodeRecord(chunk, i * RECORD_SIZE);
      if (key.length === 0) continue;
      const name = keyName(key);
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
 * @param target what stands there
 */
function slide(pool: PoolBytes, records: Buffer, slot: number, target: Buffer): void {
  const base = slot * RECORD_SIZE;
  const key = Buffer.allocUnsafe(NO_KEY.length);
  let from = 0;
  for (let at = 0; at < records.length; at += RECORD_SIZE) {
    const border = borderIn(base + at);
    if (border === undefined) continue;
    // Old bytes behind the border would be a tail: some readers take tails for a part of the value.
    const behind = target.subarray(at + border, at + RECORD_SIZE);
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
