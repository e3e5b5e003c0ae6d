import { PvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { isSystemError } from "../../../src/base/system-error.js";
import type { PoolInfo } from "../protocol/keys.js";

/** One pair of a pool. */
export interface PoolPair {
  /** Key as text, without its pool; bytes that are not valid UTF-8 are replaced by U+FFFD. */
  readonly key: string;
  /** Value up to its first NUL. */
  readonly value: Uint8Array;
}

/** One pool, whatever the operating system keeps it in. The error of one that is not there has a cause with the code `ENOENT`. */
export interface Pool {
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
export interface PoolTransport {
  /** Where they are, for messages: a directory, a registry key, a device. */
  readonly location: string;
  /** Bytes of the longest key that can be there, whoever wrote it. */
  readonly longestKeyBytes: number;
  /** What stands between the namespace and the name of a portable key. */
  readonly separator: "/" | ":";
  /** Makes the access to one pool; nothing is opened yet. */
  pool(info: PoolInfo): Pool;
  /**
   * Checks a pair before anything is written.
   * @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`, `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID`
   */
  check(key: string, value: Uint8Array): void;
  /** Arms what reports changes in pools before it returns. @returns what ends it */
  notify(pools: readonly Pool[], ring: () => void): () => void;
  /** Releases what the pools share. */
  close?(): void;
}

/** Resolves with what a look at a pool gives; undefined when the pool is not there. */
export async function unlessMissing<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Reports whether an error says that a pool is not there. */
export function isMissing(error: unknown): boolean {
  return PvbusError.is(error) && hasCode(error.cause, "ENOENT");
}

/** Reports whether an error is the operating system's of that code. */
export function hasCode(error: unknown, code: string): boolean {
  return isSystemError(error) && error.code === code;
}
