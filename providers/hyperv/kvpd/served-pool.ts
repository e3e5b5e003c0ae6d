import type { Call } from "../../../src/base/flow/call.js";
import {
  decodeRecord,
  fieldEnd,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  type PoolRecord,
  RECORD_SIZE,
} from "../codec.js";
import type { Pool } from "../pool.js";
import { appendRecord, type PoolBytes, readSlot, updateRecord } from "../pool-edit.js";
import { isMissing } from "../pool-errors.js";
import { chunks, type PoolIndex } from "../pool-index.js";
import { wholeRecords } from "../pool-layout.js";

/**
 * One pool as the host works on it, position by position as with the vendor's daemon: of duplicates the first is the
 * one that counts, changes are made in place, new records go to the end.
 */
export class ServedPool {
  readonly #pool: Pool;

  /** @param pool its file may be missing; the first change makes it */
  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Makes the file if need be, and settles what a killed writer left unfinished. */
  recover(call: Call): Promise<void> {
    return this.#pool.edit(call, () => "unchanged");
  }

  /** Resolves with the record at a position, a slot not in use included; undefined past the end. */
  async enumerate(position: number, call: Call): Promise<PoolRecord | undefined> {
    try {
      const record = await this.#pool.recordAt(position, call);
      if (!this.#mayBeUnfinished(position, record)) return record;
      await this.recover(call);
      return await this.#pool.recordAt(position, call);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** A killed writer leaves a slot without a key, mostly at the end, where the host looks last: a listing begins with that one. */
  #mayBeUnfinished(position: number, record: PoolRecord | undefined): boolean {
    if (record === undefined) return false;
    return record.key.length === 0 || (position === 0 && this.#pool.endsUnused());
  }

  /** Returns the record at a position if the file is at rest: "end" past its end, undefined when it cannot be told now. */
  enumerateNow(position: number): PoolRecord | "end" | undefined {
    try {
      if (position === 0 && this.#pool.endsUnused()) return undefined;
      const record = this.#pool.recordNow(position);
      return record === undefined || record === "end" || record.key.length > 0 ? record : undefined;
    } catch {
      // Missing, or not to be read: enumerate() says so properly.
      return undefined;
    }
  }

  /** Resolves with the value of the first record of a key; undefined when there is none, or no file. */
  async get(key: Uint8Array, call: Call): Promise<Uint8Array | undefined> {
    try {
      return await this.#pool.examine(call, (index, bytes) => {
        const [first] = offsetsOf(key, index, bytes);
        return first === undefined ? undefined : valueAt(bytes, first);
      });
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Returns the value of a key if the file is at rest: "none" when there is no such record, undefined when it cannot be told now. */
  getNow(key: Uint8Array): Uint8Array | "none" | undefined {
    try {
      // No index holds the empty key.
      return key.length === 0 ? undefined : this.#pool.valueNow(key);
    } catch {
      // Missing, or not to be read: get() says so properly.
      return undefined;
    }
  }

  /** Returns the first record of a key the value, or appends one; without a value an existing record stays as it is. */
  set(key: Uint8Array, value: Uint8Array | undefined, call: Call): Promise<void> {
    return this.#pool.edit(call, async ({ index, bytes, verify, run }) => {
      const [first] = offsetsOf(key, index, bytes);
      if (first === undefined) {
        const offset = await run(appendRecord(bytes, key, value ?? new Uint8Array()));
        index.addChunk(recordOf(bytes, offset), offset);
        return "indexed";
      }
      if (value === undefined) return "unchanged";
      verify(latin1(key), [first]);
      await run(updateRecord(bytes, first, key, value));
      return "indexed";
    });
  }

  /** Removes the first record of a key; resolves with whether there was one. */
  async delete(key: Uint8Array, call: Call): Promise<boolean> {
    let found = false;
    await this.#pool.edit(call, async ({ index, bytes, verify, remove }) => {
      const [first] = offsetsOf(key, index, bytes);
      found = first !== undefined;
      if (first === undefined) return "unchanged";
      verify(latin1(key), [first]);
      return (await remove([first])) ? "indexed" : "moved";
    });
    return found;
  }

  /** Closes the file. */
  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** Returns the offsets of a key's records, ascending. The host may use an empty key, which no index holds. */
function offsetsOf(key: Uint8Array, index: PoolIndex, bytes: PoolBytes): readonly number[] {
  if (key.length > 0) return index.offsetsOfBytes(key);
  const end = wholeRecords(bytes.size);
  const read = (into: Buffer, offset: number): number => {
    bytes.read(into, offset);
    return into.length;
  };
  for (const { chunk, offset } of chunks(0, end, read)) {
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) {
      if (fieldEnd(chunk, at, HV_KVP_EXCHANGE_MAX_KEY_SIZE) === at) return [offset + at];
    }
  }
  return [];
}

function latin1(key: Uint8Array): string {
  return Buffer.from(key).toString("latin1");
}

function valueAt(bytes: PoolBytes, offset: number): Uint8Array {
  return decodeRecord(recordOf(bytes, offset)).value;
}

function recordOf(bytes: PoolBytes, offset: number): Buffer {
  return readSlot(bytes, offset / RECORD_SIZE);
}
