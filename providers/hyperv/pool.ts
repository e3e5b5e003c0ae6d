import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { fairTurn } from "../../src/base/flow/turn.js";
import type { Clock } from "../../src/base/host/host.js";
import { decodeRecord, type PoolRecord, RECORD_SIZE } from "./codec.js";
import type { PoolInfo } from "./keys.js";
import {
  appendRecord,
  type Edit,
  type PoolBytes,
  removeRecords,
  scrubTails,
  updateRecord,
} from "./pool-edit.js";
import { type PoolFile, type Stamp, sameStamp } from "./pool-file.js";
import { CHUNK_BYTES, canScanFor, chunks, findLast, PoolIndex, type ReadAt } from "./pool-index.js";
import { isUnused, wholeRecords } from "./pool-layout.js";
import { ReadAhead } from "./pool-read-ahead.js";
import { needsRepair, repairPool } from "./pool-repair.js";
import { isSettled, isSurelyWhole, stampsEveryChange } from "./pool-stability.js";
import type { PoolPair, StorePool } from "./store-pool.js";

/** Largest pool file that is read, about 400,000 records; the vendor's daemon is slow beyond 50,000. */
export const MAX_POOL_BYTES = 1024 ** 3;
/** Largest file that one key is looked for in without an index. */
const LARGEST_SCAN = 64 * 1024 ** 2;
/** Pause before a file is looked at again where no lock can be taken. */
const REST_MS = 50;
/** Attempts to read without a lock before one is taken. */
const FREE_ATTEMPTS = 3;
/** Attempts under the shared lock, which the daemon passes over when somebody holds it for long. */
const LOCKED_ATTEMPTS = 16;
/** Attempts to find out whether every change shows in the stamps. */
const PROBES = 4;
/** Changes in a row of one of them. */
const PROBE_WRITES = 3;

/** What a pool works with. */
export interface PoolOptions {
  /** Which pool it is. */
  readonly info: PoolInfo;
  /** Its file. */
  readonly file: PoolFile;
  /** Time, to compare with file stamps. */
  readonly clock: Clock;
  /** Reports whether locks can be taken at all (native calls are there). */
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

interface Known {
  readonly index: PoolIndex;
  readonly stamp: Stamp;
  /** An equal stamp proves equal content. */
  readonly proven: boolean;
}

/** One state of the file while it is read. */
interface View {
  readonly stamp: Stamp;
  /** Length of its whole records. */
  readonly size: number;
  /** Its index, where there is one already. */
  readonly index: PoolIndex | undefined;
}

/** A pool file under the exclusive locks, for an edit. */
export interface Editing {
  /** Where its keys are; what the edit does is taken in there. */
  readonly index: PoolIndex;
  /** Its bytes. */
  readonly bytes: PoolBytes;
  /**
   * Reports whether the index holds for these records, from the records themselves; an edit begins with it.
   * @throws StaleIndex when it does not
   */
  verify(name: string, offsets: readonly number[]): void;
  /** Runs a change. */
  run<T>(edit: Edit<T>): Promise<T>;
  /** Removes records, ascending. @returns whether the index still holds */
  remove(offsets: readonly number[]): Promise<boolean>;
}

/** What an edit did: nothing, a change after which the index holds, or one that moved what the index knows. */
export type Edited = "unchanged" | "indexed" | "moved";

/** Thrown before anything is changed: the index was of another state of the file. */
class StaleIndex extends Error {}

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
  /** Where pages are read into; what is handed on is copied. */
  #room: Buffer | undefined;
  /** State that we have brought to the disk. */
  #synced: Stamp | undefined;
  #scrubbed = false;
  /** Whether every change of the file shows in its stamp; undefined: not found out yet. */
  #stampsAll: boolean | undefined;
  #probes = 0;

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
    return this.#consistently(call, async (view) => {
      if (view.index !== undefined) {
        const offset = view.index.offsetOf(key);
        const found = this.#valueAt(offset, key);
        if (offset === undefined || found !== undefined) return found;
        // The stamps were the same and the file was not.
        this.#known = undefined;
      } else if (this.#isFirstLook(view) && canScanFor(key)) {
        return this.#valueAt(await findLast(key, view.size, this.#readAt, call), key);
      }
      const { index } = await this.#know(view.stamp, call);
      return this.#valueAt(index.offsetOf(key), key);
    });
  }

  #valueAt(offset: number | undefined, key: string): Uint8Array | undefined {
    if (offset === undefined || this.#file.read(this.#record, offset) < RECORD_SIZE) return undefined;
    const record = decodeRecord(this.#record);
    if (Buffer.from(record.key).toString("utf8") !== key) return undefined;
    return Uint8Array.from(record.value);
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

  /** Writes a pair: the key's last record gets the value, other records of the key are removed. */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    await this.edit(call, (editing) => put(editing, key, value));
  }

  /** Writes a pair if the key is new; resolves with whether it was. */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    let isNew = false;
    await this.edit(call, async (editing) => {
      isNew = editing.index.offsetOf(key) === undefined;
      return isNew ? put(editing, key, value) : "unchanged";
    });
    return isNew;
  }

  /** Removes all records of a key; resolves with whether there were any. */
  async delete(key: string, call: Call): Promise<boolean> {
    let found = false;
    await this.edit(call, async ({ index, verify, remove }) => {
      const { name, offsets } = index.find(key, false);
      verify(name, offsets);
      found = offsets.length > 0;
      if (!found) return "unchanged";
      return (await remove(offsets)) ? "indexed" : "moved";
    });
    return found;
  }

  /** Resolves with all pairs in one consistent state, by the keys' bytes in Latin-1. */
  async snapshot(prefix: string, call: Call): Promise<Map<string, FilePair>> {
    return this.#consistently(call, async (view) => {
      const index = await this.#indexOf(view, call);
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
   * Returns the record at a position, views that hold until the next call, without waiting for anything.
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

  /** Reports whether the last slot is not in use: some writer is at work, or was killed. */
  endsUnused(): boolean {
    const { size } = this.#file.stamp();
    const end = wholeRecords(size);
    const byte = this.#record.subarray(0, 1);
    return end > 0 && this.#file.read(byte, end - RECORD_SIZE) === 1 && byte[0] === 0;
  }

  /**
   * Returns the value of the first record of a key's very bytes, a view that holds until the next call, without waiting.
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
   * Runs an edit under the exclusive locks, after what a killed writer left unfinished is settled. Once begun it is run to
   * its end, whatever becomes of the call; closing the pool waits for it.
   */
  async edit(call: Call, action: (editing: Editing) => Promise<Edited> | Edited): Promise<void> {
    const what = `pool ${this.info.name}`;
    const wait = call.turn(what);
    if (wait !== undefined) await wait;
    await call.within(
      this.#file.locked("exclusive", call, (stamp) => this.#edit(stamp, call, action)),
      what,
    );
  }

  async #edit(
    stamp: Stamp,
    call: Call,
    action: (editing: Editing) => Promise<Edited> | Edited,
  ): Promise<void> {
    const bytes = this.#file.bytes();
    let { index } = await this.#know(stamp, call);
    // What somebody else has left unsynced must not meet with our first steps on the disk.
    if (this.#options.durable && !(this.#synced && sameStamp(stamp, this.#synced))) await this.#file.sync();
    if (needsRepair(bytes.size, this.#findings(index))) {
      this.#known = undefined;
      await this.#run(repairPool(bytes, this.#findings(index), this.#options.durable));
      if (this.#options.durable) await this.#file.sync();
      index = (await this.#know(this.#file.stamp(), call)).index;
    }
    call.check(`pool ${this.info.name}`);
    let known = this.#known;
    this.#known = undefined;
    let edited: Edited;
    try {
      edited = await action(this.#editing(index, bytes));
    } catch (error) {
      if (!(error instanceof StaleIndex)) throw error;
      index = (await this.#know(this.#file.stamp(), call)).index;
      known = this.#known;
      this.#known = undefined;
      edited = await action(this.#editing(index, bytes));
    }
    if (edited === "unchanged") {
      this.#known = known;
      return;
    }
    if (this.#options.scrub && !this.#scrubbed) await this.#run(scrubTails(bytes));
    this.#scrubbed = true;
    if (edited === "indexed") this.#learn(index, bytes);
    if (this.#options.durable) {
      await this.#file.sync();
      this.#synced = this.#file.stamp();
    }
  }

  #findings({ unused }: PoolIndex): Parameters<typeof needsRepair>[1] {
    return { unused, closeStrays: this.info.guestWritable };
  }

  #editing(index: PoolIndex, bytes: PoolBytes): Editing {
    const run = <T>(edit: Edit<T>): Promise<T> => this.#run(edit);
    return {
      index,
      bytes,
      run,
      verify: (name, offsets) => {
        for (const offset of offsets) {
          if (this.#file.read(this.#record, offset) < RECORD_SIZE) throw new StaleIndex();
          if (Buffer.from(decodeRecord(this.#record).key).toString("latin1") !== name) throw new StaleIndex();
        }
      },
      remove: async (offsets) => {
        await run(removeRecords(bytes, offsets, this.#options.durable));
        return index.remove(offsets);
      },
    };
  }

  /** Runs a change to its end. */
  async #run<T>(edit: Edit<T>): Promise<T> {
    for (;;) {
      const step = edit.next();
      if (step.done === true) return step.value;
      if (step.value === "turn") await fairTurn();
      else if (this.#options.durable) await this.#file.sync();
    }
  }

  /** Keeps an index that is of the file's state after a change of ours, under the lock. */
  #learn(index: PoolIndex, bytes: PoolBytes): void {
    let stamp = this.#file.stamp();
    if (this.#stampsAll === undefined && this.#probes < PROBES && stamp.size > 0) {
      this.#probes++;
      const stamps = [stamp];
      const byte = Buffer.alloc(1);
      bytes.read(byte, 0);
      // The same byte again: a change for the file system alone.
      for (let i = 0; i < PROBE_WRITES; i++) {
        bytes.write(byte, 0);
        stamp = this.#file.stamp();
        stamps.push(stamp);
      }
      this.#stampsAll = stampsEveryChange(stamps);
    }
    this.#known = { index, stamp, proven: this.#stampsAll === true };
  }

  /** Zeroes what deleted and overwritten records left in the file. */
  async scrub(call: Call): Promise<void> {
    await this.edit(call, async ({ bytes, run }): Promise<Edited> => {
      await run(scrubTails(bytes));
      return "indexed";
    });
  }

  /** Closes the file. */
  close(): Promise<void> {
    return this.#file.close();
  }

  /**
   * Runs a read so that all it saw is one state of the file.
   * @throws PvbusError `ERR_CONFLICT` when the file changes all the time
   */
  async #consistently<T>(call: Call, read: (view: View) => T | Promise<T>): Promise<T> {
    const what = `pool ${this.info.name}`;
    const wait = call.turn(what);
    if (wait !== undefined) await wait;
    for (let attempt = 0; attempt < FREE_ATTEMPTS; attempt++) {
      const stamp = this.#file.stamp();
      if (!this.#file.holds(stamp)) break;
      const known = this.#isKnown(stamp) ? (this.#known as Known) : undefined;
      if (known === undefined && !this.#mayReadFreely(stamp)) break;
      const result = await read({ stamp, size: wholeRecords(stamp.size), index: known?.index });
      if (sameStamp(stamp, this.#file.stamp())) return result;
    }
    if (!this.#options.canLock()) {
      await call.sleep(REST_MS, `${what} to come to rest`);
      return this.#consistently(call, read);
    }
    for (let attempt = 0; attempt < LOCKED_ATTEMPTS; attempt++) {
      const outcome = await this.#file.locked("shared", call, async (stamp) => {
        if (this.#isSettled(stamp)) this.#whole = stamp;
        const index = this.#isKnown(stamp) ? this.#known?.index : undefined;
        const result = await read({ stamp, size: wholeRecords(stamp.size), index });
        // Not everybody keeps to the lock: the daemon passes over readers who are slow.
        return sameStamp(stamp, this.#file.stamp()) ? { result } : undefined;
      });
      if (outcome !== undefined) return outcome.result;
      call.check(what);
    }
    throw pvbusError("ERR_CONFLICT", `${what} changes faster than it can be read; try again`);
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

  /** An index of ours is trusted no sooner than anybody's: where an equal stamp proves that nothing has changed. */
  #isKnown(stamp: Stamp): boolean {
    return this.#known?.proven === true && sameStamp(this.#known.stamp, stamp);
  }

  async #know(stamp: Stamp, call: Call): Promise<Known> {
    if (this.#isKnown(stamp)) return this.#known as Known;
    if (stamp.size > MAX_POOL_BYTES) {
      throw pvbusError(
        "ERR_CORRUPT",
        `pool ${this.info.name}: ${this.#file.path} has ${stamp.size} bytes, more than any real pool; look what wrote it`,
      );
    }
    const proven = this.#stampsAll === true || this.#isSettled(stamp);
    const index = new PoolIndex();
    for (const { chunk, offset } of chunks(0, wholeRecords(stamp.size), this.#readAt)) {
      index.addChunk(chunk, offset);
      const wait = call.turn(`pool ${this.info.name}`);
      if (wait !== undefined) await wait;
    }
    const known = { index, stamp, proven };
    if (sameStamp(stamp, this.#file.stamp())) this.#known = known;
    return known;
  }

  #page(index: PoolIndex, from: number, size: number, prefix: string): { pairs: FilePair[]; next: number } {
    const pairs: FilePair[] = [];
    this.#room ??= Buffer.allocUnsafe(CHUNK_BYTES);
    for (const { chunk, offset } of chunks(from, size, this.#readAt, this.#room)) {
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
