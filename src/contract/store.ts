import type { Call } from "../base/flow/call.js";
import type { Capabilities } from "./capabilities.js";

/** One pair as a store lists it. */
export interface StoreEntry {
  /** Full native key; it can be passed back to every verb. */
  readonly key: string;
  /** The value as text; bytes that are not valid UTF-8 are replaced by U+FFFD here. Absent where a store lists names only. */
  readonly value?: string;
  /** The value's bytes, present only when they are not valid UTF-8. */
  readonly bytes?: Uint8Array;
}

/** One observed change; `value` is undefined when the key is gone. */
export interface StoreChange {
  /** Full native key. */
  readonly key: string;
  /** The new value, or undefined after a removal. */
  readonly value: string | undefined;
  /** The new value's bytes, present only when they are not valid UTF-8. */
  readonly bytes?: Uint8Array;
}

/** One pair in a provider's hands: the value as bytes. */
export interface RawEntry {
  /** Full native key. */
  readonly key: string;
  /** The value's bytes; undefined where the store lists names only, or in a change: where the key is gone. */
  readonly value: Uint8Array | undefined;
}

/** Facts about the machine that the host tells, where known. */
export interface MachineFacts {
  /** Name of the virtual machine as its administrator sees it. */
  readonly vmName?: string;
  /** Identifier of the virtual machine as its host sees it. */
  readonly vmId?: string;
  /** Name of the host. */
  readonly hostName?: string;
  /** Whatever else the host says, by its native names. */
  readonly other?: Readonly<Record<string, string>>;
}

/**
 * What became of a value that was to be erased. `host`: the host's own copy is gone. `overwritten`: the key is there, the value
 * is not. `local`: the guest's copy is gone, the host keeps its own. `no`: it is as it was.
 */
export type Erased = "host" | "overwritten" | "local" | "no";

/** A value that was read, and what became of it. */
export interface TakenValue {
  /** The value's bytes; the array belongs to the caller. */
  readonly value: Uint8Array;
  /** What became of it in the store. */
  readonly erased: Erased;
}

/** What a guest tells its host about how far it has come. */
export interface ReadyState {
  /** True: it is up. False: it has failed. */
  readonly ready: boolean;
  /** A line for people. */
  readonly status?: string;
  /** Identifier of this boot: what another boot said is old. */
  readonly bootId: string;
  /** When, as RFC 3339 has it. */
  readonly time: string;
}

/** One way in which a host can be told of {@link ReadyState}, and what came of it. */
export interface ReadySignal {
  /** Its name, `PROVISIONING_REPORT`. */
  readonly signal: string;
  /** Whether the host has taken it. */
  readonly sent: boolean;
  /** What was sent and whereto, or why it was not. */
  readonly detail: string;
}

/** What a watch tells while it lasts. */
export interface WatchHooks {
  /** Called once when the watch is armed: changes from here on are seen. */
  readonly ready: () => void;
}

/** The permissions of a store's keys as text, such as `n7` and `r0`, the owner's first. */
export interface KeyPermissions {
  /** Resolves with those of a key; undefined when there is no such key, or when they may not be seen. */
  read(key: string, call: Call): Promise<readonly string[] | undefined>;
  /**
   * Replaces those of a key, and with `below` of everything below it; resolves with false when there is no such key.
   * @throws TypeError for what is no permission, with what one is
   */
  set(key: string, permissions: readonly string[], below: boolean, call: Call): Promise<boolean>;
}

/**
 * An open key-value session with one interface, as a provider implements it. The interface in front of it has
 * already checked types, empty keys, NULs and lone surrogates, so hooks see complete arguments only.
 *
 * Duties: a verb exists exactly where {@link Capabilities} says so; values are the stored bytes; every wait goes
 * through the {@link Call}, and work of more than a few milliseconds without a wait asks {@link Call.turn} before each
 * step; sizes are checked before anything is written; after `close` every verb rejects with
 * `ERR_DISCONNECTED`; errors are PvbusErrors (interface and key are filled in by the caller).
 */
export interface ProviderStore {
  /** What this store can do; constant while it is open. */
  readonly capabilities: Capabilities;
  /** Resolves with the value's bytes, undefined when there is no such key. The array belongs to the caller. */
  read?(key: string, call: Call): Promise<Uint8Array | undefined>;
  /** Resolves when other readers see the value. */
  write?(key: string, value: Uint8Array, call: Call): Promise<void>;
  /** Resolves with whether the key was there. */
  delete?(key: string, call: Call): Promise<boolean>;
  /**
   * Yields the pairs whose native key lies below the prefix (empty: all), in the store's own order. The call's limit begins
   * again whenever the consumer comes back: use this call for every page, none that is derived from it at the start.
   */
  list?(prefix: string, call: Call): AsyncIterable<RawEntry>;
  /** Yields changes below the prefix until the call is aborted or times out; then it returns without an error. */
  watch?(prefix: string, call: Call, hooks: WatchHooks): AsyncIterable<RawEntry>;
  /** Resolves with what the host tells about the machine. */
  facts?(call: Call): Promise<MachineFacts>;
  /**
   * Reads and erases in one step: of several takers one has the value. Only where the store has such a step; everybody else
   * reads, then erases.
   * @returns undefined when there is no such key
   * @throws PvbusError when it cannot be erased: nothing was taken
   */
  take?(key: string, call: Call): Promise<TakenValue | undefined>;
  /**
   * Erases a value in the store's own way, and reads back. Without it, and where the store has `delete`, the key is deleted.
   * @param expected the value that is meant, where the caller has read it: another one stays, and is `ERR_CONFLICT`
   * @param everywhere a copy of the guest's stays, and the answer is `no`, where the host would keep its own
   * @returns `no`, with nothing changed, where what the host gave cannot be erased from here
   * @throws PvbusError when the store has refused or failed
   */
  erase?(key: string, call: Call, expected?: Uint8Array, everywhere?: boolean): Promise<Erased>;
  /** Writes where there is no such key, in one step; resolves with false, and nothing written, when there is. */
  insert?(key: string, value: Uint8Array, call: Call): Promise<boolean>;
  /** Reports whether what a key has, or has not, stays as it is while the machine runs. Without it everything may change. */
  isFixed?(key: string): boolean;
  /** Tells the host by the store's own signals that the guest is up or has failed; what came of each is data, not an error. */
  ready?(state: ReadyState, call: Call): Promise<readonly ReadySignal[]>;
  /** The permissions of keys, where they have any. */
  readonly permissionTexts?: KeyPermissions;
  /** Where portable keys live in this store; see docs/portable-keys.md. */
  readonly portable?: PortableLayout;
  /** Releases every handle; may be called twice. */
  close(): Promise<void>;
}

/**
 * Native places of portable keys in one store. Names are letters, digits, `.`, `-` and `_`, at most 120 characters;
 * distinct names must give distinct keys. A store whose keys take less than that encodes the rest.
 */
export interface PortableLayout {
  /** Native keys under which the host may have put the named value, the strongest first; as many for every name. */
  hostKeys(namespace: string, name: string): readonly string[];
  /** Native key under which the guest publishes the named value; undefined where it cannot tell the host anything. */
  guestKey(namespace: string, name: string): string | undefined;
  /** Longest value in UTF-8 bytes that one native key surely takes, 64 at least. */
  readonly chunkBytes: number;
  /** Longest name in bytes where that is less than 100; checked before anything is written. */
  readonly maxNameBytes?: number;
  /** Longest whole value in bytes where that is less than a mebibyte; checked before anything is written. */
  readonly maxValueBytes?: number;
  /** The same places for listings and watches: one for each of `hostKeys`, in their order, then the guest's where it has one. */
  places?(namespace: string): PortablePlaces;
}

/** Where all keys of a namespace lie. */
export interface PortablePlaces {
  /** What the host may have put there, as `hostKeys` has it. */
  readonly host: readonly PortablePrefix[];
  /** What the guest publishes; undefined where it cannot tell the host anything. */
  readonly guest: PortablePrefix | undefined;
}

/** A native prefix below which keys of one namespace lie. */
export interface PortablePrefix {
  /** For `list` and `watch`; keys of others may lie below it too. */
  readonly prefix: string;
  /** Returns the name of a listed key; undefined for one that is none of the namespace's. */
  nameOf(key: string): string | undefined;
}
