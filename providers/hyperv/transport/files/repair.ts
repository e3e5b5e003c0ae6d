import { crc32 } from "../../../../src/base/crc32.js";
import { decodeRecord, isUnused, keyName, RECORD_SIZE, wholeRecords } from "../../protocol/record.js";
import { decodeNote, type Note } from "../../protocol/undo-note.js";
import {
  type Edit,
  installRecords,
  NO_KEY,
  type PoolBytes,
  range,
  readScrubbed,
  readSlot,
  slotCount,
} from "./edit.js";
import type { UnusedSlots } from "./record-index.js";
import { removeRecords } from "./removal.js";

/** Unused slots that no note explains are closed so many at a time: another program may have left any number. */
const MOST_STRAYS = 1_000;
/** Slots at which a page border separates key and value, of eight: an unfinished append can show a value there. */
const SLOTS_PER_CYCLE = 8;
const WITNESSED_SLOT = 3;

/** What a repair has to know of a pool. */
export interface Findings {
  /** The slots with an empty key, ascending. */
  readonly unused: readonly UnusedSlots[];
  /** Whether the pool has no use for an empty key; the host may set one in its pools. */
  readonly closeStrays: boolean;
}

/** Reports whether anything is to be repaired: a torn tail, a note, an unfinished append, a slot that nobody uses. */
export function needsRepair(size: number, findings: Findings): boolean {
  if (size !== wholeRecords(size)) return true;
  const { unused, closeStrays } = findings;
  if (unused.length === 0) return false;
  if (closeStrays || unused.some(({ kind }) => kind === "note")) return true;
  return unfinishedFrom(unused, size / RECORD_SIZE) < size / RECORD_SIZE;
}

/**
 * Returns where the slots at the end of the file begin that were made and not filled: with the first empty one, since nobody
 * else leaves such slots, or the one before where an append has put its value there first.
 */
function unfinishedFrom(unused: readonly UnusedSlots[], slots: number): number {
  let from = slots;
  let end = slots;
  for (let at = unused.length - 1; at >= 0; at--) {
    const { slot, count, kind } = unused[at] as UnusedSlots;
    if (slot + count !== end || kind === "note") break;
    const witnessed = from < slots && from === end && (end - 1) % SLOTS_PER_CYCLE === WITNESSED_SLOT;
    if (kind === "empty") from = slot;
    else if (witnessed) from = end - 1;
    end = slot;
  }
  return from;
}

/** Returns the numbers of unused slots from `first` up to `end`, not more than `most`. */
function numbersOf(unused: readonly UnusedSlots[], first: number, end: number, most: number): number[] {
  const found: number[] = [];
  for (const { slot, count } of unused) {
    const from = Math.max(slot, first);
    const to = Math.min(slot + count, end, from + most - found.length);
    for (let each = from; each < to; each++) found.push(each);
  }
  return found;
}

/**
 * Ends or takes back the change that a killed writer, or a power cut, left unfinished, so that the pool holds what its
 * readers saw last. May be interrupted and begun again at any point. What other programs wrote since stays.
 * @param durable so that a power cut during the repair loses nothing either
 */
export function* repairPool(pool: PoolBytes, { unused, closeStrays }: Findings, durable: boolean): Edit {
  const whole = wholeRecords(pool.size);
  if (pool.size !== whole) pool.resize(whole);
  const notes = unused.filter(({ kind }) => kind === "note").map(({ slot }) => slot);
  const from = unfinishedFrom(unused, slotCount(pool));
  const doomed = new Set(notes);
  // The end of a file goes at once, however long it is; behind a note it is settled with it.
  if (notes.length === 0 && from < slotCount(pool)) pool.resize(from * RECORD_SIZE);
  else for (let slot = from; slot < slotCount(pool); slot++) doomed.add(slot);
  // An older note was being removed under the last one.
  const noteSlot = notes.at(-1);
  const note = noteSlot === undefined ? undefined : decodeNote(readSlot(pool, noteSlot));
  const add = (slot: number): unknown => isUnused(readSlot(pool, slot)) && doomed.add(slot);
  if (noteSlot !== undefined && note !== undefined) {
    for (const slot of yield* settle(pool, noteSlot, note)) doomed.add(slot);
    // Copies that have no keys yet, or none any more.
    for (const slot of numbersOf(unused, noteSlot + 1, slotCount(pool), Infinity)) add(slot);
    // The last step before the file is shortened empties what is left above.
    const below = unused.find(({ slot, count, kind }) => slot + count === noteSlot && kind === "empty");
    if (below !== undefined) for (const slot of numbersOf([below], 0, noteSlot, Infinity)) add(slot);
  }
  // Settling has filled some.
  if (closeStrays) for (const slot of numbersOf(unused, 0, slotCount(pool), MOST_STRAYS)) add(slot);
  const slots = [...doomed].sort((a, b) => a - b);
  // Under the note that is there: the next one takes only empty slots for its own.
  for (const slot of slots) if (!isUnused(readSlot(pool, slot))) pool.write(NO_KEY, slot * RECORD_SIZE);
  yield "barrier";
  yield* removeRecords(
    pool,
    slots.map((slot) => slot * RECORD_SIZE),
    durable,
  );
}

/** Settles the change that a note describes; returns the slots that are left over. */
function* settle(pool: PoolBytes, noteSlot: number, note: Note): Edit<number[]> {
  const dead = note.gaps
    .flatMap(({ slot, count }) => (slot + count <= noteSlot ? range(slot, count) : []))
    .filter((slot) => isUnused(readSlot(pool, slot)));
  const { at, count, width } = note;
  if (count === 0 || at + count + width > noteSlot) return dead;
  const target = readScrubbed(pool, at, count + width);
  if (!note.copies) {
    const moved = positionOf(target, note);
    return moved === undefined ? dead : [...dead, ...leftOver(pool, at + moved, width, noteSlot)];
  }
  const copiesAt = noteSlot + 1;
  const present = Math.max(0, Math.min(count, slotCount(pool) - copiesAt));
  const copies = readScrubbed(pool, copiesAt, present);
  const complete = present === count && crc32(copies) === note.sum;
  if (complete && (hasUnused(target) || crc32(target) === note.before)) {
    if (width > 0) takeOver(copies, target, width);
    yield* installRecords(pool, copies, at, target);
    return [...dead, ...range(at + count, width), ...range(copiesAt, count)];
  }
  // The copies were never complete, or have been cut off, or somebody has written to the records since.
  for (let index = 0; index < present; index++) {
    const copy = recordOf(copies, index);
    const isCopy = copy.equals(recordOf(target, index)) || copy.equals(recordOf(target, index + width));
    if (complete || isCopy || isUnused(copy)) dead.push(copiesAt + index);
  }
  const moved = positionOf(target, note);
  if (moved !== undefined) return [...dead, ...leftOver(pool, at + moved, width, noteSlot)];
  return [...dead, ...range(at, count + width).filter((slot) => isUnused(readSlot(pool, slot)))];
}

/**
 * Returns how many of a note's records have moved: they stand at the beginning of their slots, the others at its end, and
 * between them are as many dead slots as the note says.
 */
function positionOf(target: Buffer, { count, width, sum, copies }: Note): number | undefined {
  // Of equal records any position fits; what is dead by the last one surely stands further down.
  for (let moved = count; moved >= 0; moved--) {
    // By way of copies all move at once.
    if (copies && moved > 0 && moved < count) continue;
    const below = crc32(target.subarray(0, moved * RECORD_SIZE));
    if (crc32(target.subarray((moved + width) * RECORD_SIZE), below) === sum) return moved;
  }
  return undefined;
}

/**
 * Returns which slots are left over of those that are dead by the note: what stands there also stands further down. Where
 * another program has changed one of a record's two copies, that one stays and the other is left over.
 */
function leftOver(pool: PoolBytes, first: number, width: number, end: number): number[] {
  return range(first, width).flatMap((slot) => {
    const record = readScrubbed(pool, slot);
    if (isUnused(record)) return [slot];
    const below = range(Math.max(0, slot - width), Math.min(slot, width));
    if (below.some((other) => readScrubbed(pool, other).equals(record))) return [slot];
    const above = slot + width;
    return above < end && keyOf(readSlot(pool, above), 0) === keyOf(record, 0) ? [above] : [];
  });
}

/** Takes over into the copies what another program has written to the records themselves since. */
function takeOver(copies: Buffer, target: Buffer, width: number): void {
  for (let i = 0; i * RECORD_SIZE < copies.length; i++) {
    // Where it goes, or where it came from.
    for (const at of [i, i + width]) {
      const record = recordOf(target, at);
      if (keyOf(target, at) === keyOf(copies, i) && !record.equals(recordOf(copies, i))) {
        record.copy(copies, i * RECORD_SIZE);
        break;
      }
    }
  }
}

function keyOf(records: Buffer, index: number): string {
  return keyName(decodeRecord(records, index * RECORD_SIZE).key);
}

function recordOf(records: Buffer, index: number): Buffer {
  return records.subarray(index * RECORD_SIZE, (index + 1) * RECORD_SIZE);
}

function hasUnused(records: Buffer): boolean {
  for (let at = 0; at < records.length; at += RECORD_SIZE) if (isUnused(records, at)) return true;
  return false;
}
