import { randomBytes } from "node:crypto";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { decodeReadyValue, READY_NAME } from "../../../src/base/ready-value.js";
import { isNoSpace } from "../../../src/base/system-error.js";
import type { Introduction } from "../../../src/mdata/request.js";
import type { KeyChange, ServedKeys } from "../../../src/mdata/server/keys.js";
import { type KeyPortions, KeyTable } from "./key-table.js";
import { checkKey, checkValue, checkWritable, DEFAULT_NAMESPACES, type GuestLimits } from "./limits.js";
import { MAX_REVISION, recordBytes } from "./log-codec.js";
import { type Change, LogFile, type OpenedLog } from "./log-file.js";

/** What a key holds, and the number of the change that brought it. */
interface Held {
  readonly value: Uint8Array;
  readonly revision: number;
}

interface Pending {
  readonly key: string;
  /** Undefined for a delete. */
  readonly value: Uint8Array | undefined;
  readonly limits: GuestLimits;
  readonly resolve: (changed: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** One batch grows no longer than this: whoever waits for the disk does not wait for a mass of others' writes. */
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
/** As little as that is worth a rewriting when the disk was full: a block. */
const SPARE_WHEN_FULL_BYTES = 4096;
/** Bytes beside a value that stay in memory with it: less than a copy costs. */
const MOST_WASTED_BYTES = 16;
/** Under this key a guest says that it is up. */
const READY_KEY = `org.pvbus/${READY_NAME}`;
/** The log may hold twice what is alive and this much more before it is rewritten. */
const SPARE_LOG_BYTES = 64 * 1024;

/**
 * The keys of one guest: in memory for reading, in a log for keeping. A write resolves when it is on the disk, and only then
 * anybody sees it; writes that wait at the same time share one.
 */
export class GuestState implements ServedKeys {
  limits: GuestLimits;
  namespaces = DEFAULT_NAMESPACES;
  /** Asked before each step of a long work; whoever serves several guests sees to their turns with it. */
  turn: () => Promise<void> | undefined = () => undefined;
  /** Hears of a failure that is nobody's request's. */
  onFault: (error: unknown) => void = () => undefined;
  /** Names the time from this opening to the close: 32 hex digits. */
  readonly session = randomBytes(16).toString("hex");
  readonly damage: OpenedLog["damage"];
  readonly unfinishedBytes: number;
  readonly #log: LogFile;
  readonly #keys = new KeyTable<Held>();
  readonly #listeners = new Set<(change: KeyChange) => void>();
  #queue: Pending[] = [];
  #writing: Promise<void> | undefined;
  #revision: number;
  #used = 0;
  /** Bytes that the live records take in a log. */
  #logged = 0;
  #closed = false;

  private constructor({ log, revision, damage, unfinishedBytes }: OpenedLog, limits: GuestLimits) {
    this.#log = log;
    this.limits = limits;
    this.damage = damage;
    this.unfinishedBytes = unfinishedBytes;
    this.#revision = revision;
  }

  /** Of a damaged log all whole records count. @throws PvbusError as {@link LogFile.open} */
  static async open(path: string, limits: GuestLimits): Promise<GuestState> {
    const opened = await LogFile.open(path);
    const state = new GuestState(opened, limits);
    for (const { operation, key, value, revision: at } of opened.records)
      state.#apply(key, operation === "put" ? value : undefined, at);
    // The values were views of the whole file: overwritten ones would stay in memory with them.
    for (const { key, value } of state.#keys.portions().flat())
      state.#keys.set(key, { ...value, value: new Uint8Array(value.value) });
    // A rewritten file has its records in the order of the keys.
    state.#revision = opened.revision;
    // What can be read goes into a new log. Where that cannot be written, the next write tries again, and its caller hears why.
    if (opened.damage !== undefined) await state.#compactIfDue().catch(() => undefined);
    return state;
  }

  get revision(): number {
    return this.#revision;
  }

  get(key: string): Uint8Array | undefined {
    return this.#keys.get(key)?.value;
  }

  /** Yields the keys, sorted, with their values, as they are at the first step. */
  *entries(prefix = ""): Generator<{ readonly key: string; readonly value: Uint8Array }, void, undefined> {
    for (const portion of this.#keys.portions())
      for (const { key, value } of portion) if (key.startsWith(prefix)) yield { key, value: value.value };
  }

  portions(): KeyPortions<Held> {
    return this.#keys.portions();
  }

  /**
   * Stores a value.
   * @param value not to be changed afterwards; a part of a larger buffer is copied
   * @param limits the host's administrator has wider ones
   */
  async put(key: string, value: Uint8Array, limits: GuestLimits = this.limits): Promise<void> {
    checkKey(key, limits);
    checkValue(key, value, limits);
    // A short value out of Node's pool would keep 8 KiB of it in memory.
    const isOwn = value.buffer.byteLength - value.byteLength <= MOST_WASTED_BYTES;
    await this.#enqueue(key, isOwn ? value : new Uint8Array(value), limits);
  }

  async delete(key: string): Promise<boolean> {
    return this.#enqueue(key, undefined, this.limits);
  }

  checkWritable(key: string): void {
    checkWritable(key, this.namespaces);
  }

  /** A client has said which boot of the machine it is of: what another boot said of its readiness is over. */
  introduced({ boot }: Pick<Introduction, "boot">): Promise<void> | undefined {
    const value = this.get(READY_KEY);
    const said = value && decodeReadyValue(Buffer.from(value).toString("utf8"));
    if (boot === undefined || said?.boot === undefined || said.boot === boot) return undefined;
    return this.delete(READY_KEY).then(
      () => undefined,
      (error: unknown) => this.onFault(error),
    );
  }

  listen(listener: (change: KeyChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Waits for the writes under way and closes the log; later writes reject with `ERR_DISCONNECTED`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#writing;
    await this.#log.close();
  }

  #enqueue(key: string, value: Uint8Array | undefined, limits: GuestLimits): Promise<boolean> {
    if (this.#closed) {
      const text = "the state is closed; start the host again";
      return Promise.reject(pvbusError("ERR_DISCONNECTED", text, { key }));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ key, value, limits, resolve, reject });
      this.#writing ??= this.#writeQueue();
    });
  }

  async #writeQueue(): Promise<void> {
    try {
      // What else arrives in this turn of the event loop goes with the first batch.
      await Promise.resolve();
      while (this.#queue.length > 0) {
        const batch = this.#takeBatch();
        await this.#writeBatch(batch);
        // Room for deletes again, when there is some. Not behind a delete: what it spent would be taken away from the next one.
        if (!this.#log.hasReserve && batch.some(({ value }) => value !== undefined))
          await this.#log.keepReserve();
      }
    } finally {
      this.#writing = undefined;
    }
  }

  #takeBatch(): Pending[] {
    let bytes = 0;
    const end = this.#queue.findIndex(({ key, value = "" }) => {
      bytes += key.length + value.length;
      return bytes > MAX_BATCH_BYTES;
    });
    // Even the largest change goes alone.
    return this.#queue.splice(0, end === -1 ? this.#queue.length : Math.max(end, 1));
  }

  /** Brings changes to the disk and tells whoever waits; a failure is theirs alone, the queue goes on. */
  async #writeBatch(batch: readonly Pending[]): Promise<void> {
    const changes: (Change & Pending)[] = [];
    const stage = this.#staging();
    let revision = this.#revision;
    for (const pending of batch) {
      const { key, value } = pending;
      const refused = stage(pending);
      if (refused === "absent") pending.resolve(false);
      else if (refused !== undefined) pending.reject(refused);
      // Nobody writes that often: the file says so.
      else if (revision >= MAX_REVISION)
        pending.reject(
          full(key, "the numbers of its log's changes are used up; begin a new log with these keys"),
        );
      else {
        revision++;
        const operation = value === undefined ? "delete" : "put";
        changes.push({ ...pending, revision, operation, value: value ?? new Uint8Array() });
      }
    }
    if (changes.length === 0) return;
    try {
      await this.#compactIfDue();
      await this.#log.append(changes, this.turn);
    } catch (error) {
      const deletes = changes.filter(({ operation }) => operation === "delete");
      const mayDelete = isNoSpace(error) && deletes.length > 0 && (await this.#log.spendReserve());
      for (const { reject, key, operation } of changes)
        if (!mayDelete || operation === "put") reject(forKey(error, key));
      // Whoever deletes makes room: that must not fail for want of it.
      if (mayDelete)
        await this.#writeBatch(
          batch.filter((each) => deletes.some(({ resolve }) => resolve === each.resolve)),
        );
      return;
    }
    for (const { key, operation, value, revision: at, resolve } of changes) {
      this.#apply(key, operation === "put" ? value : undefined, at);
      resolve(true);
      for (const listener of this.#listeners) listener({ key, operation, revision: at });
    }
  }

  async #compactIfDue(): Promise<void> {
    const { suspect, bytes, hasReserve } = this.#log;
    const isLong = bytes > 2 * this.#logged + SPARE_LOG_BYTES;
    // After deletes on a full disk any room counts that the file gives back.
    const mayHelp = !hasReserve && bytes > this.#logged + SPARE_WHEN_FULL_BYTES;
    try {
      if (suspect || isLong || mayHelp)
        await this.#log.rewrite(liveOf(this.#keys.portions()), this.#revision);
    } catch (error) {
      // A file that is only long still takes more: on a full disk a delete must not fail for want of room to tidy up.
      if (this.#log.suspect) throw error;
    }
  }

  /**
   * Returns what takes changes in, one after the other, and tells what speaks against each: quotas and deletes look at what will be
   * when those before have been written.
   */
  #staging(): (pending: Pending) => PvbusError | "absent" | undefined {
    const changed = new Map<string, Uint8Array | undefined>();
    let used = this.#used;
    let count = this.#keys.size;
    return ({ key, value, limits: { maxKeys, maxTotalBytes } }) => {
      const before = changed.has(key) ? changed.get(key) : this.get(key);
      if (value === undefined && before === undefined) return "absent";
      const nextUsed = used - sizeOf(key, before) + sizeOf(key, value);
      const nextCount = count - (before === undefined ? 0 : 1) + (value === undefined ? 0 : 1);
      const advice = "delete keys or raise the limit";
      if (nextCount > maxKeys && nextCount > count)
        return full(key, `${maxKeys} keys are stored, which is this guest's limit; ${advice}`);
      if (nextUsed > maxTotalBytes && nextUsed > used)
        return full(key, `keys and values would take ${nextUsed} bytes of ${maxTotalBytes}; ${advice}`);
      changed.set(key, value);
      used = nextUsed;
      count = nextCount;
      return undefined;
    };
  }

  #apply(key: string, value: Uint8Array | undefined, revision: number): void {
    const before = this.get(key);
    this.#used += sizeOf(key, value) - sizeOf(key, before);
    if (before !== undefined) this.#logged -= recordBytes(key, before);
    if (value !== undefined) this.#logged += recordBytes(key, value);
    if (value === undefined) this.#keys.delete(key);
    else this.#keys.set(key, { value, revision });
    this.#revision = revision;
  }
}

function* liveOf(portions: KeyPortions<Held>): Generator<Change> {
  for (const portion of portions)
    for (const { key, value: held } of portion) yield { key, operation: "put", ...held };
}

function full(key: string, why: string): PvbusError {
  return pvbusError("ERR_NO_SPACE", `cannot store "${key}": ${why}`, { key });
}

function sizeOf(key: string, value: Uint8Array | undefined): number {
  return value === undefined ? 0 : Buffer.byteLength(key) + value.length;
}

/** Several changes may fail at once: each has an error of its own. */
function forKey(error: unknown, key: string): unknown {
  if (!PvbusError.is(error)) return error;
  return pvbusError(error.code, error.message, { key, cause: error.cause });
}
