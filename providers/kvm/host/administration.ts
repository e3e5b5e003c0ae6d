import type { CallOptions } from "../../../src/base/flow/call.js";
import { ADMINISTRATOR_LIMITS } from "./limits.js";
import type { GuestDamage, StateDirectory } from "./state-directory.js";

/** One key of a guest with its value. */
export interface GuestEntry {
  /** The key. */
  readonly key: string;
  /** The value's bytes. */
  readonly value: Uint8Array;
}

/** What the host's administrator does with the keys of guests, whether a host serves them at the time or not. */
export interface Administration extends AsyncDisposable {
  /** Returns the names of the guests that have keys or are served, sorted. */
  guests(options?: CallOptions): Promise<string[]>;
  /** Returns a value; undefined for no such key. @throws PvbusError `ERR_UNAVAILABLE` for no such guest */
  get(guest: string, key: string, options?: CallOptions): Promise<Uint8Array | undefined>;
  /** Stores a value; it is on the disk, and guests that watch the key are told. A guest that is not known yet becomes so. */
  set(guest: string, key: string, value: Uint8Array, options?: CallOptions): Promise<void>;
  /** Removes a key; resolves with whether it was there. */
  delete(guest: string, key: string, options?: CallOptions): Promise<boolean>;
  /** Yields keys with this beginning and their values, sorted, the host's own facts among them. */
  list(guest: string, prefix?: string, options?: CallOptions): AsyncIterable<GuestEntry>;
  /**
   * Returns what is wrong with the logs of guests: what was damaged is kept until the administrator removes it. A host that serves is
   * asked for those that it has opened.
   */
  damages(options?: CallOptions): Promise<GuestDamage[]>;
  /** Gives everything back. */
  close(): Promise<void>;
}

/** Works on the files. */
export class LocalAdministration implements Administration {
  readonly #state: StateDirectory;
  readonly #examine: boolean;

  /** @param examine whether logs that nobody has opened are looked into for damage */
  constructor(state: StateDirectory, examine = true) {
    this.#state = state;
    this.#examine = examine;
  }

  guests(): Promise<string[]> {
    return this.#state.guests();
  }

  async get(guest: string, key: string): Promise<Uint8Array | undefined> {
    return (await this.#state.guest(guest, { create: false })).get(key);
  }

  async set(guest: string, key: string, value: Uint8Array): Promise<void> {
    await (await this.#state.guest(guest, { create: true })).put(key, value, ADMINISTRATOR_LIMITS);
  }

  async delete(guest: string, key: string): Promise<boolean> {
    return (await this.#state.guest(guest, { create: false })).delete(key);
  }

  async *list(guest: string, prefix = ""): AsyncGenerator<GuestEntry, void, undefined> {
    yield* (await this.#state.guest(guest, { create: false })).entries(prefix);
  }

  damages(): Promise<GuestDamage[]> {
    return this.#state.damages({ examine: this.#examine });
  }

  close(): Promise<void> {
    return this.#state.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
