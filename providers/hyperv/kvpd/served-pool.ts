import type { Call } from "../../../src/bus/call.js";
import {
  decodeRecord,
  fieldEnd,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  type PoolRecord,
  RECORD_SIZE,
} from "../codec.js";
import { type Pool, type PoolChange, turn } from "../pool.js";
import {
  appendRecord,
  finishUpdate,
  type PoolBytes,
  removeRecords,
  updateRecord,
  wholeRecords,
} from "../pool-edit.js";
import { isMissing } from "../pool-errors.js";
import { chunks, type PoolIndex } from "../pool-index.js";

/**
 * One pool as the host works on it, position by position as with the vendor's daemon: of duplicates the first is the
 * one that counts, changes are made in place, new records go to the end. Exact copies of that first one, which a
 * killed change may leave behind, share its fate.
 */
export class ServedPool {
  readonly #pool: Pool;

  /** @param pool its file may be missing; the first change makes it */
  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Makes the file if need be, and finishes an update that a killed daemon began. */
  recover(call: Call): Promise<void> {
    return this.#pool.edit(call, (index, bytes) => {
      const last = wholeRecords(bytes.size) - RECORD_SIZE;
      for (const [name, [first]] of index.earlier) {
        if (index.last.get(name) !== last || first === undefined) continue;
        return finishUpdate(bytes, first, last) ? { changed: true } : { changed: false };
      }
      return { changed: false };
    });
  }

  /** Resolves with the record at a position, a slot not in use included; undefined past the end. */
  async enumerate(position: number, call: Call): Promise<PoolRecord | undefined> {
    try {
      return await this.#pool.recordAt(position, call);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Gives the record at a position if the file is at rest: "end" past its end, undefined when it cannot be told now. */
  enumerateNow(position: number): PoolRecord | "end" | undefined {
    try {
      return this.#pool.recordNow(position);
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

  /** Gives the value of a key if the file is at rest: "none" when there is no such record, undefined when it cannot be told now. */
  getNow(key: Uint8Array): Uint8Array | "none" | undefined {
    try {
      // No index holds the empty key.
      return key.length === 0 ? undefined : this.#pool.valueNow(key);
    } catch {
      // Missing, or not to be read: get() says so properly.
      return undefined;
    }
  }

  /** Gives the first record of a key the value, or appends one; without a value an existing record stays as it is. */
  set(key: Uint8Array, value: Uint8Array | undefined, call: Call): Promise<void> {
    return this.#pool.edit(call, async (index, bytes) => {
      const offsets = offsetsOf(key, index, bytes);
      const first = offsets[0];
      if (first === undefined) {
        const offset = appendRecord(bytes, key, value ?? new Uint8Array());
        index.addChunk(recordOf(bytes, offset), offset);
        return { changed: true, index };
      }
      if (value === undefined) return { changed: false };
      // Before the update: killed in between, copies of one value remain and the next change finds them again.
      const moved = await removeAll(bytes, copiesOf(bytes, offsets));
      updateRecord(bytes, first, key, value);
      return moved ? { changed: true } : { changed: true, index };
    });
  }

  /** Removes the first record of a key; resolves with whether there was one. */
  async delete(key: Uint8Array, call: Call): Promise<boolean> {
    let found = false;
    await this.#pool.edit(call, async (index, bytes): Promise<PoolChange> => {
      const offsets = offsetsOf(key, index, bytes);
      found = offsets[0] !== undefined;
      if (!found) return { changed: false };
      await removeAll(bytes, [offsets[0] as number, ...copiesOf(bytes, offsets)]);
      return { changed: true };
    });
    return found;
  }

  /** Closes the file. */
  close(): Promise<void> {
    return this.#pool.close();
  }
}

/** Gives the offsets of a key's records, ascending. The host may use an empty key, which no index holds. */
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

function copiesOf(bytes: PoolBytes, [first, ...others]: readonly number[]): number[] {
  if (first === undefined || others.length === 0) return [];
  const value = valueAt(bytes, first);
  return others.filter((offset) => Buffer.compare(valueAt(bytes, offset), value) === 0);
}

async function removeAll(bytes: PoolBytes, offsets: readonly number[]): Promise<boolean> {
  if (offsets.length === 0) return false;
  for (const _ of removeRecords(bytes, offsets)) await turn();
  return true;
}

function valueAt(bytes: PoolBytes, offset: number): Uint8Array {
  return decodeRecord(recordOf(bytes, offset)).value;
}

function recordOf(bytes: PoolBytes, offset: number): Buffer {
  const record = Buffer.alloc(RECORD_SIZE);
  bytes.read(record, offset);
  return record;
}
