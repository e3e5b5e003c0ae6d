import type { Introduction } from "../request.js";

/** A change that is done, as watchers hear of it. */
export interface KeyChange {
  /** The key. */
  readonly key: string;
  /** What happened. */
  readonly operation: "put" | "delete";
  /** Number of the change, growing with each. */
  readonly revision: number;
}

/** What a client may store, and how it may ask. */
export interface KeyLimits {
  /** Longest key in bytes of UTF-8. */
  readonly maxKeyBytes: number;
  /** Longest value in bytes. */
  readonly maxValueBytes: number;
  /** Most watches of one connection. */
  readonly maxWatches: number;
}

/** The keys that a server serves to one client. What it throws, or rejects with, the client is told if it is a PvbusError. */
export interface ServedKeys {
  /** What the client may store. */
  readonly limits: KeyLimits;
  /** Names the time for which its revisions hold: 32 hex digits. */
  readonly session: string;
  /** The highest revision given so far; each change of what {@link ServedKeys.get} returns gives a new one. */
  readonly revision: number;
  /** Returns a value; undefined for no such key. The bytes are not the caller's to change. */
  get(key: string): Uint8Array | undefined;
  /** Stores a value; resolves when it is kept. */
  put(key: string, value: Uint8Array): Promise<unknown>;
  /** Removes a key; resolves when that is kept. */
  delete(key: string): Promise<unknown>;
  /** Returns all keys as they are now, in portions that make a short step each. */
  portions(): Iterable<readonly { readonly key: string }[]>;
  /** Refuses a key that the client may not change. @throws PvbusError `ERR_READ_ONLY` */
  checkWritable(key: string): void;
  /** Hears who a client is; it is answered when what follows from that is done. */
  introduced?(client: Introduction): Promise<void> | undefined;
  /** Calls `listener`, which must not throw, for every change from now on, until the returned function is called. */
  listen(listener: (change: KeyChange) => void): () => void;
}
