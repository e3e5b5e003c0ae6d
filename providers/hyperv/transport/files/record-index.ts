import { isUtf8 } from "node:buffer";
import type { Call } from "../../../../src/base/flow/call.js";
import {
  fieldEnd,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  isUnfilled,
  keyName,
  RECORD_SIZE,
  wholeRecords,
} from "../../protocol/record.js";
import { decodeNote } from "../../protocol/undo-note.js";

/** Bytes read in one step: fastest with 64 to 100 records (160 to 250 KiB). */
export const CHUNK_BYTES = 96 * RECORD_SIZE;

/** Fills a buffer from an offset, as far as there are bytes; returns how many. */
export type ReadAt = (into: Buffer, offset: number) => number;

/** Slots in a row with an empty key. A pool may be a sparse file of hundreds of thousands. */
export interface UnusedSlots {
  readonly slot: number;
  count: number;
  /** `note`: somebody's unfinished change, one slot; `empty`: made and not filled. */
  readonly kind: "note" | "empty" | "other";
}

/** Where each key of a pool stands, by {@link keyName}. */
export class PoolIndex {
  /** Offset of the last record of each key. */
  readonly last = new Map<string, number>();
  /** Offsets of earlier records of the same key, ascending; only keys that have any. */
  readonly earlier = new Map<string, number[]>();
  /** Keys that are not valid UTF-8, by the text as which they are listed. */
  readonly aliases = new Map<string, string>();
  /** The slots with an empty key, ascending. */
  readonly unused: UnusedSlots[] = [];

  /** Takes in the keys of a chunk of whole records that begins at an offset of the file. */
  addChunk(chunk: Buffer, offset: number): void {
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) this.#add(chunk, at, offset + at);
  }

  #add(chunk: Buffer, at: number, offset: number): void {
    const end = fieldEnd(chunk, at, HV_KVP_EXCHANGE_MAX_KEY_SIZE);
    if (end === at) {
      this.#addUnused(chunk, at, offset / RECORD_SIZE);
      return;
    }
    const key = chunk.toString("latin1", at, end);
    const previous = this.last.get(key);
    if (previous !== undefined) {
      const list = this.earlier.get(key);
      if (list === undefined) this.earlier.set(key, [previous]);
      else list.push(previous);
    }
    this.last.set(key, offset);
    if (!isUtf8(chunk.subarray(at, end))) this.aliases.set(chunk.toString("utf8", at, end), key);
  }

  #addUnused(chunk: Buffer, at: number, slot: number): void {
    const empty = isUnfilled(chunk, at);
    const note = empty && decodeNote(chunk.subarray(at, at + RECORD_SIZE)) !== undefined;
    const kind = note ? "note" : empty ? "empty" : "other";
    const last = this.unused.at(-1);
    if (last?.kind === kind && !note && last.slot + last.count === slot) last.count++;
    else this.unused.push({ slot, count: 1, kind });
  }

  /** Takes in that records were removed and the later ones have moved down. @returns false when the index is to be made again */
  remove(offsets: readonly number[]): boolean {
    if (this.unused.length > 0 || this.aliases.size > 0) return false;
    const moved = (offset: number): number => {
      let before = 0;
      while (before < offsets.length && (offsets[before] as number) < offset) before++;
      return offset - before * RECORD_SIZE;
    };
    const first = offsets[0] ?? Infinity;
    for (const [key, list] of this.earlier) {
      const left = list.filter((offset) => !offsets.includes(offset)).map(moved);
      if (left.length === 0) this.earlier.delete(key);
      else this.earlier.set(key, left);
    }
    for (const [key, offset] of this.last) {
      if (offset < first) continue;
      if (!offsets.includes(offset)) {
        this.last.set(key, moved(offset));
        continue;
      }
      const list = this.earlier.get(key);
      const previous = list?.pop();
      if (previous === undefined) this.last.delete(key);
      else this.last.set(key, previous);
      if (list?.length === 0) this.earlier.delete(key);
    }
    return true;
  }

  /** Returns where the last record in use ends, as far as the slots behind it are in a row. */
  endOfUse(size: number): number {
    const last = this.unused.at(-1);
    return last !== undefined && (last.slot + last.count) * RECORD_SIZE >= size
      ? last.slot * RECORD_SIZE
      : size;
  }

  /** Returns the offset of the record that a key means: its last one; undefined when there is none. */
  offsetOf(key: string): number | undefined {
    return this.last.get(indexKey(key)) ?? this.last.get(this.aliases.get(key) ?? "");
  }

  /** Finds all records of a key, ascending, and its bytes in Latin-1; with `exact` only of the very bytes that the key encodes to. */
  find(key: string, exact: boolean): { readonly name: string; readonly offsets: readonly number[] } {
    const own = indexKey(key);
    const name = exact || this.last.has(own) ? own : (this.aliases.get(key) ?? own);
    return { name, offsets: this.offsets(name) };
  }

  /** Returns the first offset of a key by its name; undefined when there is none. */
  first(name: string): number | undefined {
    return this.earlier.get(name)?.[0] ?? this.last.get(name);
  }

  /** Returns all offsets of a key by its name, ascending. */
  offsets(name: string): readonly number[] {
    const last = this.last.get(name);
    return last === undefined ? [] : [...(this.earlier.get(name) ?? []), last];
  }
}

/** Returns the form in which the index holds a key. */
export function indexKey(key: string): string {
  return keyName(Buffer.from(key, "utf8"));
}

/** Reads the whole records of a range, many at a time, into one buffer. @param room of {@link CHUNK_BYTES}, free until the end */
export function* chunks(
  from: number,
  to: number,
  read: ReadAt,
  room?: Buffer,
): Generator<{ chunk: Buffer; offset: number }> {
  const buffer = room ?? Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(to - from, 0)));
  for (let offset = from; offset < to; ) {
    const wanted = buffer.subarray(0, Math.min(buffer.length, to - offset));
    const chunk = wanted.subarray(0, wholeRecords(read(wanted, offset)));
    if (chunk.length === 0) return;
    yield { chunk, offset };
    offset += chunk.length;
  }
}

/** Resolves with the offset of the last record of a key, looking from the end; undefined when there is none. */
export async function findLast(
  key: string,
  size: number,
  read: ReadAt,
  call: Call,
): Promise<number | undefined> {
  const bytes = Buffer.from(key, "utf8");
  const wanted =
    bytes.length < HV_KVP_EXCHANGE_MAX_KEY_SIZE ? Buffer.concat([bytes, Buffer.alloc(1)]) : bytes;
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, size));
  for (let end = size; end > 0; ) {
    const wait = call.turn();
    if (wait !== undefined) await wait;
    const start = Math.max(0, end - buffer.length);
    const chunk = buffer.subarray(0, end - start);
    if (read(chunk, start) < chunk.length) return undefined;
    for (let at = chunk.length - RECORD_SIZE; at >= 0; at -= RECORD_SIZE) {
      if (chunk.compare(wanted, 0, wanted.length, at, at + wanted.length) === 0) return start + at;
    }
    end = start;
  }
  return undefined;
}
