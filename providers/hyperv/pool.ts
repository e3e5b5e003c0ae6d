import type { Call } from "../../src/bus/call.js";
import { pvbusError } from "../../src/bus/errors.js";
import type { Clock } from "../../src/host/host.js";
import { decodeRecord, type PoolRecord, RECORD_SIZE } from "./codec.js";
import type { PoolInfo } from "./keys.js";
import {
  appendRecord,
  fillSlot,
  type PoolBytes,
  removeRecords,
  scrubTails,
  updateRecord,
  wholeRecords,
} from "./pool-edit.js";
import { type PoolFile, type Stamp, sameStamp } from "./pool-file.js";
import { canScanFor, chunks, findLast, indexKey, PoolIndex, type ReadAt } from "./pool-index.js";
import { ReadAhead } from "./pool-read-ahead.js";
import { isSettled, isSurelyWhole } from "./pool-stability.js";
import type { PoolPair, StorePool } from "./store-pool.js";

/** Largest pool file that is read, about 400,000 records; the vendor's daemon is slow beyond 50,000. */
export const MAX_POOL_BYTES = 1024 ** 3;
/** Largest file that one key is looked for in at a stretch, without letting others run. */
const LARGEST_SCAN = 64 * 1024 ** 2;
/** Bytes read before other work of the process gets its turn. */
const BYTES_PER_TURN = 8 * 1024 ** 2;
/** Pause before a file is looked at again where no lock can be taken. */
const REST_MS = 50;
/** Attempts to read without a lock before one is taken. */
const FREE_ATTEMPTS = 3;

/** What a pool works with. */
export interface PoolOptions {
  /** Which pool it is. */
  readonly info: PoolInfo;
  /** Its file. */
  readonly file: PoolFile;
  /** Closes the file, or leaves it to its other users. */
  readonly closeFile: () => Promise<void>;
  /** Time, to compare with file stamps. */
  readonly clock: Clock;
  /** Tells whether locks can be taken at all (native calls are there). */
  readonly canLock: () => boolean;
  /** Resolve writes only when the data is on the disk. */
  readonly durable: boolean;
  /** Zero all tails at the first write. */
  readonly scrub: boolean;
}

/** One pair of a pool file, the value a copy. */
interface FilePair extends PoolPair {
  /** The key's bytes in Latin-1, different for different keys. */
  readonly name: string;
}

/** Lets other work of the process have its turn. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

interface Known {
  readonly index: PoolIndex;
  readonly stamp: Stamp;
  /** An equal stamp proves equal content. */
  readonly settled: boolean;
}

/** One state of the file while it is read. */
interface View {
  readonly stamp: Stamp;
  /** Length of its whole records. */
  readonly size: number;
  /** Its index, where there is one already. */
  readonly index: PoolIndex | undefined;
}

/** What an edit did. */
export interface PoolChange {
  /** Whether anything changed. */
  readonly changed: boolean;
  /** The index as it is now; none when positions moved. */
  readonly index?: PoolIndex;
}

/**
 * The records of one pool file: reading by key, listing, and changes that others see whole or not at all.
 *
 * Readers go without a lock where the file's own stamps prove that nobody was writing, so that they never hold up
 * the vendor's daemon; otherwise they take the shared locks. Writers hold the exclusive locks over the whole
 * read-modify-write.
 */
export class Pool implements StorePool {
  readonly #options: PoolOptions;
  readonly #file: PoolFile;
  readonly #record = Buffer.alloc(RECORD_SIZE);
  readonly #ahead = new ReadAhead();
  #known: Known | undefined;
  /** Stamp of a settled state that was read under a lock: it is whole. */
  #whole: Stamp | undefined;
  #looked: Stamp | undefined;
  #scrubbed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#file = options.file;
  }

  readonly #readAt: ReadAt = (into, offset) => this.#file.read(into, offset);

  /** Which pool it is. */
  get info(): PoolInfo {
    return this.#options.info;
  }

  /** Resolves with the bytes of the last record of a key. */
  read(key: string, call: Call): Promise<Uint8Array | undefined> {
    return this.#consistently(call, (view) => {
      if (view.index !== undefined) return this.#valueAt(view.index.offsetOf(key));
      if (this.#isFirstLook(view) && canScanFor(key))
        return this.#valueAt(findLast(key, view.size, this.#readAt));
      return this.#indexOf(view, call).then((index) => this.#valueAt(index.offsetOf(key)));
    });
  }

  #valueAt(offset: number | undefined): Uint8Array | undefined {
    if (offset === undefined || this.#file.read(this.#record, offset) < RECORD_SIZE) return undefined;
    return Uint8Array.from(decodeRecord(this.#record).value);
  }

  /** The first reading of a state looks for its one key; who comes again gets an index, which takes longer to make. */
  #isFirstLook({ stamp, size }: View): boolean {
    if (size > LARGEST_SCAN || (this.#looked !== undefined && sameStamp(this.#looked, stamp))) return false;
    this.#looked = stamp;
    return true;
  }

  /** Resolves with the pairs whose key begins with a prefix, in file order, each key once with its last value. */
  async *list(prefix: string, call: Call): AsyncGenerator<FilePair, void, undefined> {
    let first: PoolIndex | undefined;
    let position = 0;
    for (;;) {
      const page = await this.#consistently(call, async (view) => {
        const index = await this.#indexOf(view, call);
        if (first !== undefined && index !== first) return undefined;
        return { index, end: view.size, ...this.#page(index, position, view.size, prefix) };
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

  /** Writes a pair: the key's last record gets the value, other records of the key are removed. */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    await this.#change(call, (index) => this.#put(index, key, value));
  }

  /** Writes a pair if the key is new; resolves with whether it was. */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    let isNew = false;
    await this.#change(call, async (index) => {
      isNew = index.offsetOf(key) === undefined;
      return isNew ? this.#put(index, key, value) : { changed: false };
    });
    return isNew;
  }

  async #put(index: PoolIndex, key: string, value: Uint8Array): Promise<PoolChange> {
    const keyBytes = Buffer.from(key, "utf8");
    const bytes = this.#file.bytes();
    const offsets = index.offsetsOf(key, true);
    const last = offsets.at(-1);
    if (last === undefined) {
      const unused = this.info.guestWritable ? index.unusedTail : undefined;
      if (unused !== undefined) fillSlot(bytes, unused, keyBytes, value);
      index.last.set(indexKey(key), unused ?? appendRecord(bytes, keyBytes, value));
      index.unusedTail = undefined;
      return { changed: true, index };
    }
    updateRecord(bytes, last, keyBytes, value);
    if (offsets.length === 1) return { changed: true, index };
    await this.#run(removeRecords(bytes, offsets.slice(0, -1)));
    return { changed: true };
  }

  /** Removes all records of a key; resolves with whether there were any. */
  async delete(key: string, call: Call): Promise<boolean> {
    let found = false;
    await this.#change(call, async (index) => {
      const offsets = index.offsetsOf(key, false);
      found = offsets.length > 0;
      if (!found) return { changed: false };
      await this.#run(removeRecords(this.#file.bytes(), offsets));
      return { changed: true };
    });
    return found;
  }

  /** Resolves with all pairs in one consistent state, by the keys' bytes in Latin-1. */
  async snapshot(prefix: string, call: Call): Promise<Map<string, FilePair>> {
    return this.#consistently(call, async (view) => {
      const { size } = view;
      const index = await this.#indexOf(view, call);
      const all = new Map<string, FilePair>();
      for (let at = 0; at < size; ) {
        const { pairs, next } = this.#page(index, at, size, prefix);
        for (const pair of pairs) all.set(pair.name, pair);
        at = next;
        if (at < size) await turn();
      }
      return all;
    });
  }

  /**
   * Resolves with the record at a position in the file, as the host enumerates them: unused slots and duplicates count.
   * The time does not depend on how many records there are. Undefined past the end.
   */
  recordAt(position: number, call: Call): Promise<PoolRecord | undefined> {
    return this.#consistently(call, ({ size }) => {
      const offset = position * RECORD_SIZE;
      if (offset >= size || this.#file.read(this.#record, offset) < RECORD_SIZE) return undefined;
      const { key, value } = decodeRecord(this.#record);
      return { key: Uint8Array.from(key), value: Uint8Array.from(value) };
    });
  }

  /**
   * Gives the record at a position, views that hold until the next call, without waiting for anything.
   * @returns "end" past the end; undefined when the file is not known to be at rest, see {@link recordAt}
   */
  recordNow(position: number): PoolRecord | "end" | undefined {
    const stamp = this.#file.stamp();
    if (!this.#file.holds(stamp)) return undefined;
    if (!(this.#ahead.isOf(stamp) || this.#isKnown(stamp) || this.#mayReadFreely(stamp))) return undefined;
    const offset = position * RECORD_SIZE;
    if (offset >= wholeRecords(stamp.size)) return "end";
    if (this.#ahead.record(stamp, offset) === undefined) {
      this.#ahead.fill(stamp, offset, this.#readAt, () => this.#file.stamp());
    }
    const record = this.#ahead.record(stamp, offset);
    return record && decodeRecord(record);
  }

  /**
   * Gives the value of the first record of a key's very bytes, a view that holds until the next call, without waiting.
   * @returns "none" when there is no such record; undefined when the file is not known to be at rest, or not indexed yet
   */
  valueNow(key: Uint8Array): Uint8Array | "none" | undefined {
    const stamp = this.#file.stamp();
    if (!this.#file.holds(stamp) || !this.#isKnown(stamp)) return undefined;
    const [offset] = (this.#known as Known).index.offsetsOfBytes(key);
    if (offset === undefined) return "none";
    const ahead = this.#ahead.record(stamp, offset);
    if (ahead !== undefined) return decodeRecord(ahead).value;
    if (this.#file.read(this.#record, offset) < RECORD_SIZE) return undefined;
    return sameStamp(stamp, this.#file.stamp()) ? decodeRecord(this.#record).value : undefined;
  }

  /** Resolves with what a look at one consistent state of the file gives. */
  examine<T>(call: Call, look: (index: PoolIndex, bytes: PoolBytes) => T): Promise<T> {
    return this.#consistently(call, async (view) =>
      look(await this.#indexOf(view, call), this.#file.bytes()),
    );
  }

  /**
   * Runs an edit of the file's bytes under the exclusive locks. What it hands on must be one of pool-edit.ts's
   * changes, so that a kill at any instant leaves every record readable.
   */
  edit(
    call: Call,
    action: (index: PoolIndex, bytes: PoolBytes) => Promise<PoolChange> | PoolChange,
  ): Promise<void> {
    return this.#change(call, async (index) => action(index, this.#file.bytes()));
  }

  /** Zeroes what deleted and overwritten records left in the file. */
  async scrub(call: Call): Promise<void> {
    await this.#change(call, async (index) => {
      await this.#run(scrubTails(this.#file.bytes()));
      return { changed: true, index };
    });
  }

  /** Closes the file. */
  close(): Promise<void> {
    return this.#options.closeFile();
  }

  /**
   * Runs a change under the exclusive locks. The action tells whether anything changed and gives the index as it is
   * afterwards, none when positions moved.
   */
  #change(call: Call, action: (index: PoolIndex) => Promise<PoolChange>): Promise<void> {
    return this.#file.locked("exclusive", call, async (stamp) => {
      const known = await this.#know(stamp, call);
      call.check(`pool ${this.info.name}`);
      this.#known = undefined;
      const { changed, index } = await action(known.index);
      if (!changed) {
        this.#known = known;
        return;
      }
      if (this.#options.scrub && !this.#scrubbed) await this.#run(scrubTails(this.#file.bytes()));
      this.#scrubbed = true;
      if (this.#options.durable) await this.#file.sync();
      const settled = this.#file.mark(this.#options.clock.now());
      if (index !== undefined) this.#known = { index, stamp: this.#file.stamp(), settled };
    });
  }

  /** Runs a read so that all it saw is one state of the file. */
  async #consistently<T>(call: Call, read: (view: View) => T | Promise<T>): Promise<T> {
    call.check(`pool ${this.info.name}`);
    for (let attempt = 0; attempt < FREE_ATTEMPTS; attempt++) {
      const stamp = this.#file.stamp();
      if (!this.#file.holds(stamp)) break;
      const known = this.#isKnown(stamp) ? (this.#known as Known) : undefined;
      if (known === undefined && !this.#mayReadFreely(stamp)) break;
      const pending = read({ stamp, size: wholeRecords(stamp.size), index: known?.index });
      const result = pending instanceof Promise ? await pending : pending;
      if (sameStamp(stamp, this.#file.stamp())) return result;
    }
    if (!this.#options.canLock()) {
      await call.sleep(REST_MS, `pool ${this.info.name} to come to rest`);
      return this.#consistently(call, read);
    }
    return this.#file.locked("shared", call, (stamp) => {
      if (this.#isSettled(stamp)) this.#whole = stamp;
      const index = this.#isKnown(stamp) ? this.#known?.index : undefined;
      return read({ stamp, size: wholeRecords(stamp.size), index });
    });
  }

  async #indexOf({ index, stamp }: View, call: Call): Promise<PoolIndex> {
    return index ?? (await this.#know(stamp, call)).index;
  }

  /** A file that is settled and surely whole can be read without a lock: a change afterwards shows in its stamp. */
  #mayReadFreely(stamp: Stamp): boolean {
    if (!this.#isSettled(stamp)) return false;
    if (isSurelyWhole(stamp) || !this.#options.canLock()) return true;
    return this.#whole !== undefined && sameStamp(this.#whole, stamp);
  }

  #isSettled(stamp: Stamp): boolean {
    return isSettled(stamp, this.#options.clock.now());
  }

  #isKnown(stamp: Stamp): boolean {
    return this.#known?.settled === true && sameStamp(this.#known.stamp, stamp);
  }

  async #know(stamp: Stamp, call: Call): Promise<Known> {
    if (this.#isKnown(stamp)) return this.#known as Known;
    if (stamp.size > MAX_POOL_BYTES) {
      throw pvbusError(
        "ERR_CORRUPT",
        `pool ${this.info.name}: ${this.#file.path} has ${stamp.size} bytes, more than any real pool; look what wrote it`,
      );
    }
    const settled = this.#isSettled(stamp);
    const index = new PoolIndex();
    let sinceTurn = 0;
    for (const { chunk, offset } of chunks(0, wholeRecords(stamp.size), this.#readAt)) {
      index.addChunk(chunk, offset);
      sinceTurn += chunk.length;
      if (sinceTurn < BYTES_PER_TURN) continue;
      sinceTurn = 0;
      await turn();
      call.check(`pool ${this.info.name}`);
    }
    const known = { index, stamp, settled };
    if (sameStamp(stamp, this.#file.stamp())) this.#known = known;
    return known;
  }

  #page(index: PoolIndex, from: number, size: number, prefix: string): { pairs: FilePair[]; next: number } {
    const pairs: FilePair[] = [];
    for (const { chunk, offset } of chunks(from, size, this.#readAt)) {
      for (let at = 0; at < chunk.length; at += RECORD_SIZE) {
        const { key, value } = decodeRecord(chunk, at);
        const raw = Buffer.from(key.buffer, key.byteOffset, key.length);
        const name = raw.toString("latin1");
        if (name === "" || index.last.get(name) !== offset + at) continue;
        const text = raw.toString("utf8");
        if (text.startsWith(prefix)) pairs.push({ key: text, value: Uint8Array.from(value), name });
      }
      return { pairs, next: offset + chunk.length };
    }
    return { pairs, next: size };
  }

  async #run(steps: Iterable<void>): Promise<void> {
    for (const _ of steps) await turn();
  }
}
