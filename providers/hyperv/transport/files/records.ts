import { pvbusError } from "../../../../src/base/errors.js";
import type { Call } from "../../../../src/base/flow/call.js";
import { fairTurn } from "../../../../src/base/flow/turn.js";
import type { Clock } from "../../../../src/base/host/host.js";
import type { PoolInfo } from "../../protocol/keys.js";
import { decodeRecord, keyName, RECORD_SIZE, wholeRecords } from "../../protocol/record.js";
import { type Edit, type PoolBytes, scrubTails } from "./edit.js";
import type { PoolFile } from "./file.js";
import { chunks, PoolIndex, type ReadAt } from "./record-index.js";
import { removeRecords } from "./removal.js";
import { needsRepair, repairPool } from "./repair.js";
import { isSettled, isSurelyWhole, type Stamp, sameStamp, stampsEveryChange } from "./stamp.js";

/** Largest pool file that is read, about 400,000 records; the vendor's daemon is slow beyond 50,000. */
export const MAX_POOL_BYTES = 1024 ** 3;
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

/** What the records of a pool file are read and changed with. */
export interface RecordsOptions {
  readonly info: PoolInfo;
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

/** An index, and the stamp that proves equal content where it is found again. */
interface Known {
  readonly index: PoolIndex;
  readonly stamp: Stamp;
}

/** One state of the file while it is read. */
export interface View {
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
  readonly bytes: PoolBytes;
  /** An edit begins with it. @throws StaleIndex when the index does not hold for these records */
  verify(name: string, offsets: readonly number[]): void;
  run<T>(edit: Edit<T>): Promise<T>;
  /** Removes records, ascending. @returns whether the index still holds */
  remove(offsets: readonly number[]): Promise<boolean>;
}

/** What an edit did: nothing, a change after which the index holds, or one that moved what the index knows. */
export type Edited = "unchanged" | "indexed" | "moved";

type Action = (editing: Editing) => Promise<Edited> | Edited;

/** Thrown before anything is changed: the index was of another state of the file. */
class StaleIndex extends Error {}

/**
 * The records of one pool file as its users share them: what is read is one state of the file, what is changed others see
 * whole or not at all. Readers go without a lock where the file's own stamps prove that nobody was writing, so that they never hold up
 * the vendor's daemon; otherwise they take the shared locks. Writers hold the exclusive locks over the whole
 * read-modify-write.
 */
export class PoolRecords {
  readonly info: PoolInfo;
  /** What changes the file's bytes is for an edit. */
  readonly file: PoolFile;
  /** Reads from the file. */
  readonly readAt: ReadAt = (into, offset) => this.file.read(into, offset);
  readonly #options: RecordsOptions;
  readonly #record = Buffer.alloc(RECORD_SIZE);
  #known: Known | undefined;
  /** Stamp of a settled state that was read under a lock: it is whole. */
  #whole: Stamp | undefined;
  /** State that we have brought to the disk. */
  #synced: Stamp | undefined;
  #scrubbed = false;
  /** Whether every change of the file shows in its stamp; undefined: not found out yet. */
  #stampsAll: boolean | undefined;
  #probes = 0;

  constructor(options: RecordsOptions) {
    this.info = options.info;
    this.#options = options;
    this.file = options.file;
  }

  /** Returns the file's state where it can be read at once, without a lock. @param seen a state of which something is held still */
  atRest(seen?: Stamp): View | undefined {
    const stamp = this.file.stamp();
    if (!this.file.holds(stamp)) return undefined;
    const view = this.#view(stamp);
    if (view.index !== undefined || sameStamp(seen, stamp) || this.#mayReadFreely(stamp)) return view;
    return undefined;
  }

  /** Runs a read so that all it saw is one state of the file. @throws PvbusError `ERR_CONFLICT` when that changes all the time */
  async consistently<T>(call: Call, read: (view: View) => T | Promise<T>): Promise<T> {
    const what = `pool ${this.info.name}`;
    const wait = call.turn(what);
    if (wait !== undefined) await wait;
    for (let attempt = 0; attempt < FREE_ATTEMPTS; attempt++) {
      const view = this.atRest();
      if (view === undefined) break;
      const result = await read(view);
      if (sameStamp(view.stamp, this.file.stamp())) return result;
    }
    if (!this.#options.canLock()) {
      await call.sleep(REST_MS, `${what} to come to rest`);
      return this.consistently(call, read);
    }
    for (let attempt = 0; attempt < LOCKED_ATTEMPTS; attempt++) {
      const outcome = await this.file.locked("shared", call, async (stamp) => {
        if (this.#isSettled(stamp)) this.#whole = stamp;
        const result = await read(this.#view(stamp));
        // Not everybody keeps to the lock: the daemon passes over readers who are slow.
        return sameStamp(stamp, this.file.stamp()) ? { result } : undefined;
      });
      if (outcome !== undefined) return outcome.result;
      call.check(what);
    }
    throw pvbusError("ERR_CONFLICT", `${what} changes faster than it can be read; try again`);
  }

  /** Resolves with the index of a state of the file. */
  async indexOf({ index, stamp }: Pick<View, "index" | "stamp">, call: Call): Promise<PoolIndex> {
    return index ?? this.#know(stamp, call);
  }

  /** Makes the index again at the next reading: it was wrong though the stamps were the same. */
  forget(): void {
    this.#known = undefined;
  }

  /**
   * Runs an edit under the exclusive locks, after what a killed writer left unfinished is settled. Once begun it is run to
   * its end, whatever becomes of the call; closing the pool waits for it.
   */
  async edit(call: Call, action: Action): Promise<void> {
    const what = `pool ${this.info.name}`;
    const wait = call.turn(what);
    if (wait !== undefined) await wait;
    await call.within(
      this.file.locked("exclusive", call, (stamp) => this.#edit(stamp, call, action)),
      what,
    );
  }

  async #edit(stamp: Stamp, call: Call, action: Action): Promise<void> {
    const bytes = this.file.bytes();
    let index = await this.#know(stamp, call);
    // What somebody else has left unsynced must not meet with our first steps on the disk.
    if (this.#options.durable && !sameStamp(this.#synced, stamp)) await this.file.sync();
    const findings = { unused: index.unused, closeStrays: this.info.guestWritable };
    if (needsRepair(bytes.size, findings)) {
      this.#known = undefined;
      await this.#run(repairPool(bytes, findings, this.#options.durable));
      if (this.#options.durable) await this.file.sync();
      index = await this.#know(this.file.stamp(), call);
    }
    call.check(`pool ${this.info.name}`);
    let known: Known | undefined;
    const act = async (): Promise<Edited> => {
      known = this.#known;
      this.#known = undefined;
      return action(this.#editing(index, bytes));
    };
    const edited = await act().catch(async (error: unknown) => {
      if (!(error instanceof StaleIndex)) throw error;
      index = await this.#know(this.file.stamp(), call);
      return act();
    });
    if (edited === "unchanged") {
      this.#known = known;
      return;
    }
    if (this.#options.scrub && !this.#scrubbed) await this.#run(scrubTails(bytes));
    this.#scrubbed = true;
    if (edited === "indexed") this.#learn(index, bytes);
    if (this.#options.durable) {
      await this.file.sync();
      this.#synced = this.file.stamp();
    }
  }

  #editing(index: PoolIndex, bytes: PoolBytes): Editing {
    const run = <T>(edit: Edit<T>): Promise<T> => this.#run(edit);
    return {
      index,
      bytes,
      run,
      verify: (name, offsets) => {
        for (const offset of offsets) {
          if (this.file.read(this.#record, offset) < RECORD_SIZE) throw new StaleIndex();
          if (keyName(decodeRecord(this.#record).key) !== name) throw new StaleIndex();
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
      else if (this.#options.durable) await this.file.sync();
    }
  }

  /** Keeps an index that is of the file's state after a change of ours, under the lock. */
  #learn(index: PoolIndex, bytes: PoolBytes): void {
    let stamp = this.file.stamp();
    if (this.#stampsAll === undefined && this.#probes < PROBES && stamp.size > 0) {
      this.#probes++;
      const stamps = [stamp];
      const byte = Buffer.alloc(1);
      bytes.read(byte, 0);
      // The same byte again: a change for the file system alone.
      while (stamps.length <= PROBE_WRITES) {
        bytes.write(byte, 0);
        stamp = this.file.stamp();
        stamps.push(stamp);
      }
      this.#stampsAll = stampsEveryChange(stamps);
    }
    this.#known = this.#stampsAll === true ? { index, stamp } : undefined;
  }

  close(): Promise<void> {
    return this.file.close();
  }

  /** A file that is settled and surely whole can be read without a lock: a change afterwards shows in its stamp. */
  #mayReadFreely(stamp: Stamp): boolean {
    if (!this.#isSettled(stamp)) return false;
    return isSurelyWhole(stamp) || !this.#options.canLock() || sameStamp(this.#whole, stamp);
  }

  #isSettled(stamp: Stamp): boolean {
    return isSettled(stamp, this.#options.clock.now());
  }

  #view(stamp: Stamp): View {
    return { stamp, size: wholeRecords(stamp.size), index: this.#indexAt(stamp) };
  }

  /** An index of ours is trusted no sooner than anybody's: where an equal stamp proves that nothing has changed. */
  #indexAt(stamp: Stamp): PoolIndex | undefined {
    return sameStamp(this.#known?.stamp, stamp) ? this.#known?.index : undefined;
  }

  async #know(stamp: Stamp, call: Call): Promise<PoolIndex> {
    const known = this.#indexAt(stamp);
    if (known !== undefined) return known;
    if (stamp.size > MAX_POOL_BYTES) {
      throw pvbusError(
        "ERR_CORRUPT",
        `pool ${this.info.name}: ${this.file.path} has ${stamp.size} bytes, more than any real pool; look what wrote it`,
      );
    }
    const isProven = this.#stampsAll === true || this.#isSettled(stamp);
    const index = new PoolIndex();
    for (const { chunk, offset } of chunks(0, wholeRecords(stamp.size), this.readAt)) {
      index.addChunk(chunk, offset);
      const wait = call.turn(`pool ${this.info.name}`);
      if (wait !== undefined) await wait;
    }
    if (sameStamp(stamp, this.file.stamp())) this.#known = isProven ? { index, stamp } : undefined;
    return index;
  }
}
