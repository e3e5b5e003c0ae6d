import type { Call } from "../../../src/base/flow/call.js";
import {
  decodeRecord,
  decodeValue,
  isUnused,
  keyName,
  type PoolRecord,
  RECORD_SIZE,
  wholeRecords,
} from "../protocol/record.js";
import { appendRecord, type PoolBytes, readSlot, updateRecord } from "../transport/files/edit.js";
import { chunks, type PoolIndex } from "../transport/files/record-index.js";
import type { PoolRecords, View } from "../transport/files/records.js";
import { type Stamp, sameStamp } from "../transport/files/stamp.js";
import { unlessMissing } from "../transport/pool.js";

/** Records that are read ahead of a listing. */
const RECORDS_AHEAD = 32;

/**
 * One pool as the host works on it, position by position as with the vendor's daemon: of duplicates the first is the
 * one that counts, changes are made in place, new records go to the end.
 */
export class ServedPool {
  readonly #records: PoolRecords;
  readonly #record = Buffer.alloc(RECORD_SIZE);
  /** Records as they stood in one state of the file. */
  readonly #ahead: { stamp?: Stamp | undefined; from: number; end: number; bytes: Buffer } = {
    from: 0,
    end: 0,
    bytes: Buffer.alloc(0),
  };

  /** @param records of a file that may be missing; the first change makes it */
  constructor(records: PoolRecords) {
    this.#records = records;
  }

  /** Makes the file if need be, and settles what a killed writer left unfinished. */
  recover(call: Call): Promise<void> {
    return this.#records.edit(call, () => "unchanged");
  }

  /** Resolves with the record at a position, a slot not in use included; undefined past the end. */
  enumerate(position: number, call: Call): Promise<PoolRecord | undefined> {
    return unlessMissing(async () => {
      const record = await this.#recordAt(position, call);
      // A killed writer leaves a slot without a key, mostly at the end, where the host looks last: a listing begins with that one.
      const isUnfinished = record?.key.length === 0 || (position === 0 && record && this.#endsUnused());
      if (!isUnfinished) return record;
      await this.recover(call);
      return this.#recordAt(position, call);
    });
  }

  /** The time does not depend on how many records there are. */
  #recordAt(position: number, call: Call): Promise<PoolRecord | undefined> {
    return this.#records.consistently(call, ({ size }) => {
      const offset = position * RECORD_SIZE;
      if (offset >= size || this.#records.readAt(this.#record, offset) < RECORD_SIZE) return undefined;
      const { key, value } = decodeRecord(this.#record);
      return { key: Uint8Array.from(key), value: Uint8Array.from(value) };
    });
  }

  #endsUnused(): boolean {
    const end = wholeRecords(this.#records.file.stamp().size);
    const byte = this.#record.subarray(0, 1);
    return end > 0 && this.#records.readAt(byte, end - RECORD_SIZE) === 1 && byte[0] === 0;
  }

  /**
   * Returns the record at a position if the file is at rest, views that hold until the next call: "none" past its end, undefined
   * when it is not known now.
   */
  enumerateNow(position: number): PoolRecord | "none" | undefined {
    try {
      if (position === 0 && this.#endsUnused()) return undefined;
      const view = this.#records.atRest(this.#ahead.stamp);
      if (view === undefined) return undefined;
      const offset = position * RECORD_SIZE;
      if (offset >= view.size) return "none";
      const at = this.#heldAt(view, offset, RECORDS_AHEAD);
      if (at === undefined) return undefined;
      const decoded = decodeRecord(this.#ahead.bytes, at);
      return decoded.key.length > 0 ? decoded : undefined;
    } catch {
      // Missing, or not to be read: enumerate() says so properly.
      return undefined;
    }
  }

  /**
   * Returns where the record at an offset stands in what is held; undefined when the file changed meanwhile.
   * @param ahead how many are read where it is not held
   */
  #heldAt(view: View, offset: number, ahead: number): number | undefined {
    if (!this.#holds(view, offset)) this.#readAhead(view, offset, ahead);
    return this.#holds(view, offset) ? offset - this.#ahead.from : undefined;
  }

  #holds({ stamp }: View, offset: number): boolean {
    const { stamp: held, from, end } = this.#ahead;
    return offset >= from && offset + RECORD_SIZE <= end && sameStamp(held, stamp);
  }

  #readAhead({ stamp, size }: View, offset: number, records: number): void {
    const ahead = this.#ahead;
    if (ahead.bytes.length === 0) ahead.bytes = Buffer.alloc(RECORDS_AHEAD * RECORD_SIZE);
    const wanted = ahead.bytes.subarray(0, Math.min(records * RECORD_SIZE, size - offset));
    const count = this.#records.readAt(wanted, offset);
    ahead.stamp = sameStamp(stamp, this.#records.file.stamp()) ? stamp : undefined;
    ahead.from = offset;
    ahead.end = offset + wholeRecords(count);
  }

  /** Resolves with the value of the first record of a key; undefined when there is none, or no file. */
  get(key: Uint8Array, call: Call): Promise<Uint8Array | undefined> {
    return unlessMissing(() =>
      this.#records.consistently(call, async (view) => {
        const index = await this.#records.indexOf(view, call);
        const bytes = this.#records.file.bytes();
        const first = firstOf(key, index, bytes);
        return first === undefined ? undefined : decodeRecord(recordAt(bytes, first)).value;
      }),
    );
  }

  /**
   * Returns the value of a key if the file is at rest and indexed, a view that holds until the next call: "none" when there is no
   * such record, undefined when it is not known now.
   */
  getNow(key: Uint8Array): Uint8Array | "none" | undefined {
    // No index holds the empty key.
    if (key.length === 0) return undefined;
    try {
      const view = this.#records.atRest();
      if (view?.index === undefined) return undefined;
      const offset = view.index.first(keyName(key));
      if (offset === undefined) return "none";
      const at = this.#heldAt(view, offset, 1);
      return at === undefined ? undefined : decodeValue(this.#ahead.bytes, at);
    } catch {
      // Missing, or not to be read: get() says so properly.
      return undefined;
    }
  }

  /** Sets the value of a key's first record, or appends one; without a value an existing record stays as it is. */
  set(key: Uint8Array, value: Uint8Array | undefined, call: Call): Promise<void> {
    return this.#records.edit(call, async ({ index, bytes, verify, run }) => {
      const first = firstOf(key, index, bytes);
      if (first === undefined) {
        const offset = await run(appendRecord(bytes, key, value ?? new Uint8Array()));
        index.addChunk(recordAt(bytes, offset), offset);
        return "indexed";
      }
      if (value === undefined) return "unchanged";
      verify(keyName(key), [first]);
      await run(updateRecord(bytes, first, key, value));
      return "indexed";
    });
  }

  /** Removes the first record of a key; resolves with whether there was one. */
  async delete(key: Uint8Array, call: Call): Promise<boolean> {
    let found = false;
    await this.#records.edit(call, async ({ index, bytes, verify, remove }) => {
      const first = firstOf(key, index, bytes);
      found = first !== undefined;
      if (first === undefined) return "unchanged";
      verify(keyName(key), [first]);
      return (await remove([first])) ? "indexed" : "moved";
    });
    return found;
  }

  close(): Promise<void> {
    return this.#records.close();
  }
}

/** Returns the offset of a key's first record. The host may use an empty key, which no index holds. */
function firstOf(key: Uint8Array, index: PoolIndex, bytes: PoolBytes): number | undefined {
  if (key.length > 0) return index.first(keyName(key));
  const read = (into: Buffer, offset: number): number => {
    bytes.read(into, offset);
    return into.length;
  };
  for (const { chunk, offset } of chunks(0, wholeRecords(bytes.size), read))
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) if (isUnused(chunk, at)) return offset + at;
  return undefined;
}

function recordAt(bytes: PoolBytes, offset: number): Buffer {
  return readSlot(bytes, offset / RECORD_SIZE);
}
