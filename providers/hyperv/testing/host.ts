import { closeSync, constants, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Call } from "../../../src/base/flow/call.js";
import { lockFile } from "../../../src/native/posix/file-lock.js";
import { HOST_LIMITS } from "../protocol/limits.js";
import {
  decodeRecord,
  encodeField,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  HV_KVP_EXCHANGE_MAX_VALUE_SIZE,
  RECORD_SIZE,
} from "../protocol/record.js";

/** A key-value pair as an administrator's Msvm_KvpExchangeDataItem carries it. */
export interface KvpItem {
  /** Key. */
  readonly name: string;
  /** Value. */
  readonly data: string;
}

/** Return value of a refused WMI call: the key exists already, or does not exist (Microsoft WMI reference). */
export const INVALID_PARAMETER = 32773;
/** Most items that one call takes. */
export const MAX_ITEMS_PER_CALL = 128;

/** A refusal of the simulated host's management service. */
export class KvpHostError extends Error {
  /** Return value of the WMI method. */
  readonly returnValue: number;
  /** @param returnValue of the WMI method */
  constructor(message: string, returnValue: number) {
    super(`${message} (${returnValue})`);
    this.name = "KvpHostError";
    this.returnValue = returnValue;
  }
}

/**
 * The host's side of Hyper-V's KVP exchange together with the guest's daemon, as far as the pool files show it: an
 * administrator adds, modifies and removes pairs, the host tells facts, the host enumerates what the guest wrote.
 * The files change as the vendor's daemon changes them: under its record lock, truncated and rewritten whole, old tails
 * left standing.
 */
export class HypervHostSimulator implements AsyncDisposable {
  /** The pools' directory. */
  readonly directory: string;
  #items = new Set<string>();

  private constructor(directory: string) {
    this.directory = directory;
  }

  /**
   * Makes the pool directory and its five empty files, as the daemon does at its start; existing ones are kept.
   * @param options.sysroot directory that stands for `/`
   * @param options.platform whose directory to use: `linux` (default) or `freebsd`
   */
  static async create(options: {
    sysroot: string;
    platform?: NodeJS.Platform;
  }): Promise<HypervHostSimulator> {
    const usual = options.platform === "freebsd" ? "var/db/hyperv/pool" : "var/lib/hyperv";
    const directory = join(options.sysroot, usual);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const simulator = new HypervHostSimulator(directory);
    for (const pool of [0, 1, 2, 3, 4]) closeSync(openSync(simulator.#path(pool), "a", 0o644));
    for (const { name } of simulator.#enumerate(0)) simulator.#items.add(name);
    return simulator;
  }

  /**
   * AddKvpItems: puts new pairs into pool External.
   * @throws KvpHostError 32773 when any of the keys exists or there are more than 128 items; then none is added
   */
  async addKvpItems(items: readonly KvpItem[]): Promise<void> {
    this.#check(namesOf(items), false);
    for (const { name } of items) this.#items.add(name);
    await this.#set(0, items);
  }

  /**
   * ModifyKvpItems: sets new values for pairs of pool External.
   * @throws KvpHostError 32773 when any of the keys does not exist; then none is changed
   */
  async modifyKvpItems(items: readonly KvpItem[]): Promise<void> {
    this.#check(namesOf(items), true);
    await this.#set(0, items);
  }

  /**
   * RemoveKvpItems: removes pairs of pool External by key.
   * @throws KvpHostError 32773 when any of the keys does not exist; then none is removed
   */
  async removeKvpItems(names: readonly string[]): Promise<void> {
    this.#check(names, true);
    for (const name of names) {
      this.#items.delete(name);
      await this.#rewrite(0, (records) => {
        const at = records.findIndex((record) => keyOf(record) === name);
        return at < 0 ? records : records.toSpliced(at, 1);
      });
    }
  }

  /** What the host tells about itself and the machine: SET on pool Guest/Parameters. */
  async setParameters(facts: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, data] of Object.entries(facts)) await this.#set(3, [{ name, data }]);
  }

  /**
   * GuestExchangeItems: pool Guest as the host enumerates it. Names are cut at 254 and values at 1022 UTF-16 units,
   * a record that is not valid UTF-8 ends the enumeration, of equal names (without regard to case) the last counts.
   */
  async guestItems(): Promise<readonly KvpItem[]> {
    const items = new Map<string, KvpItem>();
    for (const item of this.#enumerate(1)) items.set(item.name.toLowerCase(), item);
    return [...items.values()];
  }

  /** Nothing is held open between calls; present for `await using`. */
  async close(): Promise<void> {
    this.#items.clear();
  }

  /** The same as {@link HypervHostSimulator.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #path(pool: number): string {
    return join(this.directory, `.kvp_pool_${pool}`);
  }

  #check(names: readonly string[], isKnown: boolean): void {
    if (names.length > MAX_ITEMS_PER_CALL)
      throw new KvpHostError(`${names.length} items in one call`, INVALID_PARAMETER);
    for (const name of names) {
      if (this.#items.has(name) === isKnown) continue;
      throw new KvpHostError(`${name} ${isKnown ? "does not exist" : "exists already"}`, INVALID_PARAMETER);
    }
  }

  async #set(pool: number, items: readonly KvpItem[]): Promise<void> {
    for (const { name, data } of items) {
      const key = encodeField(Buffer.from(name), HV_KVP_EXCHANGE_MAX_KEY_SIZE);
      const value = encodeField(Buffer.from(data), HV_KVP_EXCHANGE_MAX_VALUE_SIZE);
      await this.#rewrite(pool, (records) => {
        const found = records.find((record) => keyOf(record) === name);
        if (found === undefined) return [...records, Buffer.concat([key, value])];
        value.copy(found, HV_KVP_EXCHANGE_MAX_KEY_SIZE, 0, Buffer.byteLength(data) + 1);
        return records;
      });
    }
  }

  /** Reload, change, truncate, write back whole: the daemon's way, its lock held meanwhile. */
  async #rewrite(pool: number, change: (records: Buffer[]) => Buffer[]): Promise<void> {
    const fd = openSync(this.#path(pool), constants.O_RDWR);
    try {
      const lock = await lockFile(fd, { mode: "exclusive", flock: false, call: new Call() });
      try {
        const content = Buffer.concat(change(this.#records(pool)));
        ftruncateSync(fd, 0);
        for (let done = 0; done < content.length; )
          done += writeSync(fd, content, done, content.length - done, done);
      } finally {
        lock.release();
      }
    } finally {
      closeSync(fd);
    }
  }

  #records(pool: number): Buffer[] {
    const bytes = readFileSync(this.#path(pool));
    const count = Math.floor(bytes.length / RECORD_SIZE);
    return Array.from({ length: count }, (_, slot) =>
      bytes.subarray(slot * RECORD_SIZE, (slot + 1) * RECORD_SIZE),
    );
  }

  #enumerate(pool: number): KvpItem[] {
    const items: KvpItem[] = [];
    const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const records = this.#records(pool);
    try {
      for (const record of records) {
        const { key, value } = decodeRecord(record);
        items.push({
          name: cut(strict.decode(key), HOST_LIMITS.maxKeyUnits),
          data: cut(strict.decode(value), HOST_LIMITS.maxValueUnits),
        });
      }
    } catch {
      // The driver answers this index with a failure and the host asks for no further one.
    }
    return items;
  }
}

function namesOf(items: readonly KvpItem[]): string[] {
  return items.map(({ name }) => name);
}

function keyOf(record: Buffer): string {
  return Buffer.from(decodeRecord(record).key).toString("utf8");
}

/** Cuts at a number of UTF-16 units; a surrogate pair that would be split is dropped whole. */
function cut(text: string, units: number): string {
  const end = /[\uD800-\uDBFF]/.test(text.charAt(units - 1)) ? units - 1 : units;
  return text.length <= units ? text : text.slice(0, end);
}
