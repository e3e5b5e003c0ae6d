import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { Notifier } from "../../../src/base/flow/notifier.js";
import { ADMINISTRATOR_LIMITS } from "./limits.js";
import type { GuestPresence, Presences } from "./presence.js";
import type { GuestDamage, StateDirectory } from "./state-directory.js";

/** One key of a guest with its value. */
export interface GuestEntry {
  /** The key. */
  readonly key: string;
  /** The value's bytes. */
  readonly value: Uint8Array;
}

/** One key of a guest at a moment. */
export interface GuestNews {
  /** Whether the guest is there; undefined where no host serves, or an old one does not say. */
  readonly presence: GuestPresence | undefined;
  /** The value's bytes; undefined for no such key. */
  readonly value: Uint8Array | undefined;
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
   * Yields what a key holds and whether its guest is there, and again when either changes, until the call is over. Where nobody
   * tells of changes it ends after the first.
   * @param options without `timeoutMs` it goes on for ever
   * @throws PvbusError `ERR_UNAVAILABLE` for no such guest; `ERR_DISCONNECTED` when the host ends; `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  follow(guest: string, key: string, options?: CallOptions): AsyncIterable<GuestNews>;
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
  readonly #presences: Presences | undefined;

  /** @param presences who is there, where the host itself works on them: its logs are not looked into for damage, they are open */
  constructor(state: StateDirectory, presences?: Presences) {
    this.#state = state;
    this.#presences = presences;
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

  async *follow(
    guest: string,
    key: string,
    options: CallOptions = {},
  ): AsyncGenerator<GuestNews, void, undefined> {
    const call = new Call(options, Number.POSITIVE_INFINITY);
    const keys = await this.#state.guest(guest, { create: false });
    const presences = this.#presences;
    if (presences === undefined) {
      yield { presence: undefined, value: keys.get(key) };
      return;
    }
    const news = new Notifier();
    const stopKeys = keys.listen((change) => {
      if (change.key === key) news.notify();
    });
    const stopPresences = presences.listen((each) => {
      if (each === guest) news.notify();
    });
    try {
      for (;;) {
        const { count } = news;
        yield { presence: presences.of(guest), value: keys.get(key) };
        await news.wait(call, `news of guest ${guest}`, count);
      }
    } finally {
      stopKeys();
      stopPresences();
    }
  }

  damages(): Promise<GuestDamage[]> {
    return this.#state.damages({ examine: this.#presences === undefined });
  }

  close(): Promise<void> {
    return this.#state.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
