import { isUtf8 } from "node:buffer";
import { fieldEnd, HV_KVP_EXCHANGE_MAX_KEY_SIZE, RECORD_SIZE } from "./codec.js";
import { wholeRecords } from "./pool-edit.js";

/** Records read in one step: fastest between 64 and 100 (160 to 250 KiB). */
const RECORDS_PER_READ = 96;

/** Fills a buffer from an offset, as far as there are bytes; returns how many. */
export type ReadAt = (into: Buffer, offset: number) => number;

/** Where each key of a pool stands. Keys are held as their bytes in Latin-1, so that no two byte strings meet. */
export class PoolIndex {
  /** Offset of the last record of each key. */
  readonly last: Map<string, number>;
  /** Offsets of earlier records of the same key, ascending; only keys that have any. */
  readonly earlier: Map<string, number[]>;
  /** Keys that are not valid UTF-8, by the text as which they are listed. */
  readonly aliases: Map<string, string>;
  /** Offset of the last slot when it is not in use. */
  unusedTail: number | undefined;

  constructor() {
    this.last = new Map();
    this.earlier = new Map();
    this.aliases = new Map();
  }

  /** Takes in the keys of a chunk of whole records that begins at an offset of the file. */
  addChunk(chunk: Buffer, offset: number): void {
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) this.#add(chunk, at, offset + at);
  }

  #add(chunk: Buffer, at: number, offset: number): void {
    const end = fieldEnd(chunk, at, HV_KVP_EXCHANGE_MAX_KEY_SIZE);
    this.unusedTail = end === at ? offset : undefined;
    if (end === at) return;
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

  /** Gives the offset of the record that a key means: its last one; undefined when there is none. */
  offsetOf(key: string): number | undefined {
    const offset = this.last.get(indexKey(key));
    if (offset !== undefined) return offset;
    const alias = this.aliases.get(key);
    return alias === undefined ? undefined : this.last.get(alias);
  }

  /** Gives all offsets of the key of these very bytes, ascending. */
  offsetsOfBytes(key: Uint8Array): readonly number[] {
    return this.#offsets(Buffer.from(key.buffer, key.byteOffset, key.length).toString("latin1"));
  }

  /** Gives all offsets of a key, ascending; with `exact` only of the very bytes that the key encodes to. */
  offsetsOf(key: string, exact: boolean): readonly number[] {
    const own = indexKey(key);
    return this.#offsets(exact || this.last.has(own) ? own : (this.aliases.get(key) ?? own));
  }

  #offsets(name: string): readonly number[] {
    const last = this.last.get(name);
    return last === undefined ? [] : [...(this.earlier.get(name) ?? []), last];
  }
}

/** Gives the form in which the index holds a key. */
export function indexKey(key: string): string {
  return Buffer.from(key, "utf8").toString("latin1");
}

/** Reads the whole records of a range, many at a time, into one reused buffer. */
export function* chunks(
  from: number,
  to: number,
  read: ReadAt,
): Generator<{ chunk: Buffer; offset: number }> {
  const buffer = Buffer.allocUnsafe(Math.min(RECORDS_PER_READ * RECORD_SIZE, Math.max(to - from, 0)));
  for (let offset = from; offset < to; ) {
    const wanted = buffer.subarray(0, Math.min(buffer.length, to - offset));
    const chunk = wanted.subarray(0, wholeRecords(read(wanted, offset)));
    if (chunk.length === 0) return;
    yield { chunk, offset };
    offset += chunk.length;
  }
}

/** Tells whether a key can be looked for by its bytes; one with U+FFFD may stand for bytes that are no text. */
export function canScanFor(key: string): boolean {
  return !key.includes("\ufffd");
}

/** Gives the offset of the last record of a key, looking from the end; undefined when there is none. */
export function findLast(key: string, size: number, read: ReadAt): number | undefined {
  const bytes = Buffer.from(key, "utf8");
  const wanted =
    bytes.length < HV_KVP_EXCHANGE_MAX_KEY_SIZE ? Buffer.concat([bytes, Buffer.alloc(1)]) : bytes;
  const buffer = Buffer.allocUnsafe(Math.min(RECORDS_PER_READ * RECORD_SIZE, size));
  for (let end = size; end > 0; ) {
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
