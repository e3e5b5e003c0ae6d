import type { Call } from "../../src/base/flow/call.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { PoolInfo } from "./keys.js";

/** One pair of a pool. */
export interface PoolPair {
  /** Key as text, without its pool; bytes that are not valid UTF-8 are replaced by U+FFFD. */
  readonly key: string;
  /** Value up to its first NUL. */
  readonly value: Uint8Array;
}

/** Access to one pool, whatever the operating system keeps it in; its errors are told apart by isMissing. */
export interface StorePool {
  /** Which pool it is. */
  readonly info: PoolInfo;
  /** Returns a value; undefined when there is no such key. */
  read(key: string, call: Call): Promise<Uint8Array | undefined>;
  /** Writes a checked pair. */
  write(key: string, value: Uint8Array, call: Call): Promise<void>;
  /** Writes a checked pair if the key is new. @returns whether it was */
  insert(key: string, value: Uint8Array, call: Call): Promise<boolean>;
  /** Removes a key. @returns whether it was there */
  delete(key: string, call: Call): Promise<boolean>;
  /** Yields the pairs whose keys begin with the prefix, each key once. */
  list(prefix: string, call: Call): AsyncIterable<PoolPair>;
  /** Returns the same at one moment, by what tells keys apart. */
  snapshot(prefix: string, call: Call): Promise<ReadonlyMap<string, PoolPair>>;
  /** Zeroes what removed values left behind, where that can be. */
  scrub?(call: Call): Promise<void>;
  /** Releases its handles. */
  close(): Promise<void>;
}

/** How an operating system keeps the pools. */
export interface PoolSystem {
  /** Where they are, for messages: a directory, a registry key, a device. */
  readonly place: string;
  /** What can be done, per pool. */
  readonly capabilities: Capabilities;
  /** Bytes of the longest key that can be there, whoever wrote it. */
  readonly longestKeyBytes: number;
  /** What stands between the namespace and the name of a portable key. */
  readonly separator: "/" | ":";
  /** Returns the access to one pool; nothing is opened yet. */
  pool(info: PoolInfo): StorePool;
  /**
   * Checks a pair before anything is written.
   * @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`
   */
  check(key: string, value: Uint8Array): void;
  /** Arms what tells of changes in pools before it returns; gives what ends it. */
  notify(pools: readonly StorePool[], ring: () => void): () => void;
  /** Releases what the pools share. */
  close?(): void;
}
