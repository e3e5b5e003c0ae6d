import type { Call } from "../../../../src/base/flow/call.js";
import type { PoolInfo } from "../../protocol/keys.js";
import { decodeRecord, isUnused, RECORD_SIZE } from "../../protocol/record.js";
import type { Pool, PoolPair } from "../pool.js";
import { appendRecord, scrubTails, updateRecord } from "./edit.js";
import { CHUNK_BYTES, chunks, findLast, type PoolIndex } from "./record-index.js";
import type { Edited, Editing, PoolRecords, View } from "./records.js";
import { type Stamp, sameStamp } from "./stamp.js";

/** Largest file that one key is looked for in without an index. */
const LARGEST_SCAN = 64 * 1024 ** 2;

/** One pair of a pool file, the value a copy. */
interface FilePair extends PoolPair {
  /** The key's bytes in Latin-1, different for different keys. */
  readonly name: string;
}

/** A pool file by its keys, as programs use it: of duplicates the last counts, which is what the host sees. */
export class FilePool implements Pool {
  readonly info: PoolInfo;
  readonly #records: PoolRecords;
  readonly #record = Buffer.alloc(RECORD_SIZE);
  #looked: Stamp | undefined;
  /** Where pages are read into; what is handed on is copied. */
  #room: Buffer | undefined;

  constructor(records: PoolRecords) {
    this.info = records.info;
    this.#records = records;
  }

  /** Resolves with the bytes of the last record of a key. */
  read(key: string, call: Call): Promise<Uint8Array | undefined> {
    return this.#records.consistently(call, async (view) => {
      if (view.index !== undefined) {
        const offset = view.index.offsetOf(key);
        const found = this.#valueAt(offset, key);
        if (offset === undefined || found !== undefined) return found;
        // The stamps were the same and the file was not.
        this.#records.forget();
      } else if (this.#isFirstLook(view) && !key.includes("\ufffd")) {
        // A key with U+FFFD may stand for bytes that are no text.
        return this.#valueAt(await findLast(key, view.size, this.#records.readAt, call), key);
      }
      const index = await this.#records.indexOf({ index: undefined, stamp: view.stamp }, call);
      return this.#valueAt(index.offsetOf(key), key);
    });
  }

  #valueAt(offset: number | undefined, key: string): Uint8Array | undefined {
    if (offset === undefined || this.#records.readAt(this.#record, offset) < RECORD_SIZE) return undefined;
    const record = decodeRecord(this.#record);
    if (Buffer.from(record.key).toString("utf8") !== key) return undefined;
    return Uint8Array.from(record.value);
  }

  /** The first reading of a state looks for its one key; who comes again gets an index, which takes longer to make. */
  #isFirstLook({ stamp, size }: View): boolean {
    if (size > LARGEST_SCAN || sameStamp(this.#looked, stamp)) return false;
    this.#looked = stamp;
    return true;
  }

  /** Resolves with the pairs whose key begins with a prefix, in file order, each key once with its last value. */
  async *list(prefix: string, call: Call): AsyncGenerator<FilePair, void, undefined> {
    let first: PoolIndex | undefined;
    let position = 0;
    for (;;) {
      const page = await this.#records.consistently(call, async (view) => {
        const index = await this.#records.indexOf(view, call);
        if (first !== undefined && index !== first) return undefined;
        const end = index.endOfUse(view.size);
        return { index, end, ...this.#page(index, position, end, prefix) };
      });
      if (page === undefined) break;
      first = page.index;
      position = page.next;
      yield* page.pairs;
      if (position >= page.end) return;
    }
    // The file changed between two pages: what is left comes from one consistent pass.
    const seen = new Set<string>();
    for (const [key, offset] of (first as PoolIndex).last) if (offset < position) seen.add(key);
    for (const pair of (await this.snapshot(prefix, call)).values()) if (!seen.has(pair.name)) yield pair;
  }

  /** Resolves with all pairs in one consistent state, by the keys' bytes in Latin-1. */
  snapshot(prefix: string, call: Call): Promise<Map<string, FilePair>> {
    return this.#records.consistently(call, async (view) => {
      const index = await this.#records.indexOf(view, call);
      const size = index.endOfUse(view.size);
      const all = new Map<string, FilePair>();
      for (let at = 0; at < size; ) {
        const { pairs, next } = this.#page(index, at, size, prefix);
        for (const pair of pairs) all.set(pair.name, pair);
        at = next;
        await call.turn(`pool ${this.info.name}`);
      }
      return all;
    });
  }

  #page(index: PoolIndex, from: number, size: number, prefix: string): { pairs: FilePair[]; next: number } {
    const pairs: FilePair[] = [];
    this.#room ??= Buffer.allocUnsafe(CHUNK_BYTES);
    for (const { chunk, offset } of chunks(from, size, this.#records.readAt, this.#room)) {
      for (let at = 0; at < chunk.length; at += RECORD_SIZE) {
        if (isUnused(chunk, at)) continue;
        const { key, value } = decodeRecord(chunk, at);
        const raw = Buffer.from(key.buffer, key.byteOffset, key.length);
        const name = raw.toString("latin1");
        if (index.last.get(name) !== offset + at) continue;
        const text = raw.toString("utf8");
        if (text.startsWith(prefix)) pairs.push({ key: text, value: Uint8Array.from(value), name });
      }
      return { pairs, next: offset + chunk.length };
    }
    return { pairs, next: size };
  }

  /** Writes a pair: the key's last record gets the value, other records of the key are removed. */
  write(key: string, value: Uint8Array, call: Call): Promise<void> {
    return this.#records.edit(call, (editing) => put(editing, key, value));
  }

  /** Writes a pair if the key is new; resolves with whether it was. */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    let isNew = false;
    await this.#records.edit(call, async (editing) => {
      isNew = editing.index.offsetOf(key) === undefined;
      return isNew ? put(editing, key, value) : "unchanged";
    });
    return isNew;
  }

  /** Removes all records of a key; resolves with whether there were any. */
  async delete(key: string, call: Call): Promise<boolean> {
    let found = false;
    await this.#records.edit(call, async ({ index, verify, remove }) => {
      const { name, offsets } = index.find(key, false);
      verify(name, offsets);
      found = offsets.length > 0;
      if (!found) return "unchanged";
      return (await remove(offsets)) ? "indexed" : "moved";
    });
    return found;
  }

  /** Zeroes what deleted and overwritten records left in the file. */
  scrub(call: Call): Promise<void> {
    return this.#records.edit(call, async ({ bytes, run }): Promise<Edited> => {
      await run(scrubTails(bytes));
      return "indexed";
    });
  }

  close(): Promise<void> {
    return this.#records.close();
  }
}

async function put(
  { index, bytes, verify, run, remove }: Editing,
  key: string,
  value: Uint8Array,
): Promise<Edited> {
  const keyBytes = Buffer.from(key, "utf8");
  const { name, offsets } = index.find(key, true);
  verify(name, offsets);
  const last = offsets.at(-1);
  if (last === undefined) {
    index.last.set(name, await run(appendRecord(bytes, keyBytes, value)));
    return "indexed";
  }
  await run(updateRecord(bytes, last, keyBytes, value));
  return offsets.length === 1 || (await remove(offsets.slice(0, -1))) ? "indexed" : "moved";
}
