import { ServedPool } from "../../providers/hyperv/kvpd/served-pool.js";
import { POOLS, type PoolInfo } from "../../providers/hyperv/protocol/keys.js";
import type { PoolFs } from "../../providers/hyperv/transport/files/descriptor.js";
import { PoolFile } from "../../providers/hyperv/transport/files/file.js";
import { FilePool } from "../../providers/hyperv/transport/files/pool.js";
import { PoolRecords } from "../../providers/hyperv/transport/files/records.js";
import { isMissing } from "../../providers/hyperv/transport/pool.js";
import { Call } from "../../src/base/flow/call.js";
import type { Random } from "../support/campaign.js";
import type { Action, Records } from "./model.js";
import { keyOf, newValue } from "./pairs.js";
import type { View } from "./readers.js";

const GUEST = POOLS.find(({ name }) => name === "Guest") as PoolInfo;

/** Returns the records of a file, for one that takes no lock. */
export function recordsAt(path: string, durable: boolean, fs?: PoolFs): PoolRecords {
  const file = new PoolFile({
    path,
    pool: GUEST.name,
    trustedOwners: new Set([0, process.geteuid?.() ?? 0]),
    makePrivate: false,
    create: true,
    // One program at a time works on the file here.
    lock: async () => ({ release: () => undefined }),
    ...(fs === undefined ? {} : { fs }),
  });
  return new PoolRecords({
    info: GUEST,
    file,
    clock: { now: () => Date.now() },
    canLock: () => true,
    durable,
    scrub: false,
  });
}

/** Our two writers of a pool file in this process: the API's pool and the daemon's. */
export class Actors {
  readonly #api: FilePool;
  readonly #served: ServedPool;

  /** @param fs the file system on which both work */
  constructor(path: string, durable: boolean, fs?: PoolFs) {
    this.#api = new FilePool(recordsAt(path, durable, fs));
    this.#served = new ServedPool(recordsAt(path, durable, fs));
  }

  /** Does it; resolves with what the actor said, where it says anything. */
  async act(action: Action): Promise<boolean | undefined> {
    const call = new Call();
    switch (action.kind) {
      case "write":
        await this.#api.write(action.key, Buffer.from(action.value), call);
        return undefined;
      case "insert":
        return this.#api.insert(action.key, Buffer.from(action.value), call);
      case "delete":
        return this.#api.delete(action.key, call);
      case "scrub":
        await this.#api.scrub(call);
        return undefined;
      case "set":
        await this.#served.set(Buffer.from(action.key), Buffer.from(action.value), call);
        return undefined;
      case "unset":
        return this.#served.delete(Buffer.from(action.key), call);
      case "start":
        await this.#served.recover(call);
        return undefined;
    }
  }

  async close(): Promise<void> {
    await this.#api.close();
    await this.#served.close();
  }
}

/** Returns what our own reader sees: the listing, which single reads must confirm. */
export async function ourView(path: string, keys: readonly string[]): Promise<View> {
  const pool = new FilePool(recordsAt(path, false));
  const pairs = new Map<string, string>();
  try {
    for await (const { key, value } of pool.list("", new Call())) {
      if (pairs.has(key)) return { reader: "ours", pairs, refusal: `lists ${key} twice` };
      pairs.set(key, Buffer.from(value).toString());
    }
    for (const key of keys) {
      const value = await pool.read(key, new Call());
      const text = value && Buffer.from(value).toString();
      if (text !== pairs.get(key))
        return { reader: "ours", pairs, refusal: `reads another value of ${key.slice(0, 20)} than it lists` };
    }
  } catch (error) {
    if (!isMissing(error)) return { reader: "ours", pairs, refusal: String(error) };
  } finally {
    await pool.close();
  }
  return { reader: "ours", pairs };
}

/** How much there may be of what. */
const KEYS = 60;
let version = 0;

/** Returns the next action on some records: mostly on keys that are there, at the ends as often as within. */
export function someAction(random: Random, records: Records): Action {
  const existing = (): string | undefined => {
    const places = [0, records.length - 1, random.below(Math.max(1, records.length))];
    return records[random.pick(places)]?.key;
  };
  const fresh = (): string => keyOf(random.below(KEYS));
  const host = random() < 0.4;
  const dice = random();
  const value = (key: string): string => newValue(random, key, ++version);
  if (dice < 0.42) {
    const key = existing() ?? fresh();
    return { kind: host ? "set" : "write", key, value: value(key) };
  }
  if (dice < 0.66) return { kind: host ? "unset" : "delete", key: existing() ?? fresh() };
  if (dice < 0.9) {
    const key = fresh();
    return { kind: host ? "set" : random.pick(["write", "insert"]), key, value: value(key) };
  }
  if (dice < 0.94) return { kind: host ? "unset" : "delete", key: fresh() };
  return { kind: host ? "start" : "scrub" };
}

/** Returns the records with which a history begins: often duplicates of another program's among them. */
export function someRecords(random: Random, many: number): Records {
  const size = random() < 0.06 ? many : random.below(41);
  const records = Array.from({ length: size }, (_, at) => {
    // Past the keys of the actions: bystanders.
    const key = keyOf(size > KEYS ? at : random() < 0.5 ? at : KEYS + at);
    return { key, value: newValue(random, key, ++version) };
  });
  if (size > 1 && random() < 0.15) {
    for (let copies = 1 + random.below(3); copies > 0; copies--) {
      const { key, value } = records[random.below(size)] as { key: string; value: string };
      const duplicate = random() < 0.3 ? value : newValue(random, key, ++version);
      records.splice(random.below(records.length + 1), 0, { key, value: duplicate });
    }
  }
  return records;
}
