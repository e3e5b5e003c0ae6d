import type { CallOptions } from "../base/flow/call.js";
import type { MachineFacts, StoreChange, StoreEntry, TakenValue } from "./store.js";

/** Options of a watch. */
export interface WatchOptions extends CallOptions {
  /** Called once when the watch is armed: changes from here on are seen. */
  readonly ready?: (() => void) | undefined;
}

/** How a value is taken. */
export interface TakeOptions extends CallOptions {
  /**
   * `after`, the default: delivered, then erased; who is killed has delivered it or finds it again. `first`: erased, then
   * delivered; of several takers one has it where the store can say so, and a kill may lose it.
   */
  readonly erase?: "after" | "first" | undefined;
  /** Fails with `ERR_READ_ONLY`, and delivers nothing, where the host would keep the value. It is erased first then. */
  readonly requireErase?: boolean | undefined;
  /** Receives the value before it is erased (or behind that, see `erase`), and is waited for; when it fails, nothing more is done. */
  readonly deliver?: ((value: Uint8Array) => Promise<void>) | undefined;
}

/** One set of keys: an interface's store, or a guest's keys on the host. */
export interface KeyValues {
  /** Name of the interface; undefined where the keys are no interface's. */
  readonly name?: string | undefined;
  /** Resolves with the value's bytes; undefined when there is no such key. */
  readBytes(key: string, options?: CallOptions): Promise<Uint8Array | undefined>;
  /** Writes a value; resolves when other readers see it. */
  write(key: string, value: string | Uint8Array, options?: CallOptions): Promise<void>;
  /** Removes a key; resolves with whether it was there. */
  delete(key: string, options?: CallOptions): Promise<boolean>;
  /** Lists the pairs below a prefix. */
  list(prefix?: string, options?: CallOptions): AsyncIterable<StoreEntry>;
}

/** An interface as programs and demonstrations use it; {@link PvInterface} is one. */
export interface KeyInterface extends KeyValues {
  /** Name of the interface, `pvbus0`. */
  readonly name: string;
  /** Resolves with the value as text; undefined when there is no such key. */
  read(key: string, options?: CallOptions): Promise<string | undefined>;
  /** Reads a value and erases it; resolves with undefined when there is no such key. */
  take(key: string, options?: TakeOptions): Promise<TakenValue | undefined>;
  /** Writes where there is no such key; resolves with false when there is. */
  insert(key: string, value: string | Uint8Array, options?: CallOptions): Promise<boolean>;
  /** Follows changes below a prefix until the call ends. */
  watch(prefix?: string, options?: WatchOptions): AsyncGenerator<StoreChange, void, undefined>;
  /** Resolves with what the host tells about this machine. */
  facts(options?: CallOptions): Promise<MachineFacts>;
}
