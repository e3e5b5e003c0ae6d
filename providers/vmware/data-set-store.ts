import { pvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { PortableLayout, ProviderStore, RawEntry, WatchHooks } from "../../src/contract/store.js";
import { dataSetCapabilities } from "./capabilities.js";
import type { VmwareOptions } from "./options.js";
import { dataSetLayout } from "./portable.js";
import {
  type DataSetArguments,
  type DataSetInfo,
  type DataSetReply,
  dataSetCommand,
  dataSetError,
  dataSetsIn,
  decodeDataSetReply,
  failureIn,
  keysIn,
  malformed,
  settingArguments,
  valueIn,
} from "./protocol/data-sets.js";
import { DATASET_KEY_BYTES, DATASET_VALUE_BYTES } from "./protocol/keys.js";
import { UNKNOWN_COMMAND, wordsOf } from "./protocol/rpci.js";
import type { RpciSession } from "./session.js";
import { watchByLooking } from "./watch.js";

const PACE = { firstMs: 1_000, longestMs: 10_000 };
const LOOK_MS = 30_000;

/**
 * DataSets of a virtual machine (vSphere 8, hardware version 20): named stores that the host makes, with listing and
 * removal. The guest's program must be privileged.
 */
export class VmwareDataSets {
  readonly #session: RpciSession;
  #isPlural = false;

  /** @internal Use `VmwareStore.dataSets`. */
  constructor(session: RpciSession) {
    this.#session = session;
  }

  /**
   * Lists the DataSets that the guest may see.
   * @throws PvbusError `ERR_NOT_SUPPORTED` on a host without DataSets, `ERR_PERMISSION`, `ERR_PROTOCOL`
   */
  async list(call: Call): Promise<readonly DataSetInfo[]> {
    return dataSetsIn(await this.#ask("datasets-list", undefined, call));
  }

  /** Returns what the host says of one DataSet. @throws as {@link VmwareDataSets.list} */
  async query(dataset: string, call: Call): Promise<Readonly<Record<string, unknown>>> {
    const { result: _, ...rest } = await this.#ask("datasets-query", { dataset }, call);
    return rest;
  }

  /** Yields the keys of a DataSet, page by page. @throws as {@link VmwareDataSets.list} */
  async *keys(dataset: string, call: Call): AsyncGenerator<string, void, undefined> {
    const contexts = new Set<string>();
    for (let context: string | undefined; ; ) {
      const { keys, next } = keysIn(await this.#ask("datasets-list-keys", { dataset, context }, call));
      yield* keys;
      if (next === undefined) return;
      if (contexts.has(next)) throw malformed("the pages of a listing run in a circle");
      contexts.add(next);
      context = next;
    }
  }

  /** Returns a value; undefined when there is no such key. @throws as {@link VmwareDataSets.list} */
  async get(dataset: string, key: string, call: Call): Promise<string | undefined> {
    const reply = await this.#reply("datasets-get-entry", { dataset, keys: [key] }, call);
    const failure = failureIn(reply);
    if (failure === undefined) return valueIn(reply, key);
    // The host's id for a missing key is not documented: the listing tells.
    if (!(await this.has(dataset, key, call))) return undefined;
    throw dataSetError("datasets-get-entry", failure);
  }

  /** Reports whether a key is there. @throws as {@link VmwareDataSets.list} */
  async has(dataset: string, key: string, call: Call): Promise<boolean> {
    for await (const each of this.keys(dataset, call)) if (each === key) return true;
    return false;
  }

  /**
   * Sets a value. One that needs several commands is not whole for readers meanwhile, nor behind a broken channel.
   * @throws as {@link VmwareDataSets.list}, and `ERR_READ_ONLY`, `ERR_NO_SPACE`, `ERR_VALUE_INVALID`
   */
  async set(dataset: string, key: string, value: string, call: Call): Promise<void> {
    for (const args of settingArguments(dataset, key, value))
      await this.#ask("datasets-set-entry", args, call);
  }

  /** Removes a key. @returns whether it was there. @throws as {@link VmwareDataSets.set} */
  async delete(dataset: string, key: string, call: Call): Promise<boolean> {
    const there = await this.has(dataset, key, call);
    if (there) await this.#ask("datasets-delete-entry", { dataset, keys: [key] }, call);
    return there;
  }

  async #ask(name: string, args: DataSetArguments | undefined, call: Call): Promise<DataSetReply> {
    const reply = await this.#reply(name, args, call);
    const failure = failureIn(reply);
    if (failure !== undefined) throw dataSetError(name, failure);
    return reply;
  }

  async #reply(name: string, args: DataSetArguments | undefined, call: Call): Promise<DataSetReply> {
    const send = (as: string): Promise<Uint8Array> => this.#session.value(dataSetCommand(as, args), call);
    return decodeDataSetReply(name, await this.#spelled(name, send));
  }

  /** The vendor's pages write `…-entry` and `…-entries`: a host that does not know the one is asked for the other. */
  async #spelled<T>(name: string, send: (as: string) => Promise<T>): Promise<T> {
    if (!name.endsWith("-entry")) return send(name);
    const plural = name.replace(/entry$/, "entries");
    if (this.#isPlural) return send(plural);
    try {
      return await send(name);
    } catch (error) {
      if (wordsOf(error) !== UNKNOWN_COMMAND) throw error;
      const reply = await send(plural);
      this.#isPlural = true;
      return reply;
    }
  }
}

/** One DataSet as a store with every verb. Its keys are its own, without a prefix. */
export class VmwareDataSetStore implements ProviderStore {
  /** What can be done. */
  readonly capabilities: Capabilities = dataSetCapabilities();
  /** Where portable keys live. */
  readonly portable: PortableLayout = dataSetLayout();
  readonly #session: RpciSession;
  readonly #sets: VmwareDataSets;
  readonly #options: VmwareOptions;
  readonly #name: string;
  readonly #closing: Closing;

  /** @internal Opened by the provider. */
  constructor(
    session: RpciSession,
    name: string,
    options: VmwareOptions & { readonly closing?: AbortSignal | undefined } = {},
  ) {
    this.#closing = new Closing(options.closing);
    this.#session = session;
    this.#sets = new VmwareDataSets(session);
    this.#name = name;
    this.#options = options;
  }

  /** Reads a value. @throws PvbusError as {@link VmwareDataSets.get} */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    this.#checkKey(key);
    const value = await this.#sets.get(this.#name, key, call);
    return value === undefined ? undefined : new Uint8Array(Buffer.from(value));
  }

  /** Sets a value; one beyond 63 KiB goes in pieces, which readers may see meanwhile. @throws as {@link VmwareDataSets.set} */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    this.#checkKey(key);
    if (value.length > DATASET_VALUE_BYTES)
      throw pvbusError(
        "ERR_VALUE_TOO_LONG",
        `the value has ${value.length} bytes, a DataSet takes ${DATASET_VALUE_BYTES}`,
      );
    await this.#sets.set(this.#name, key, Buffer.from(value).toString("utf8"), call);
  }

  /** Removes a key. @throws as {@link VmwareDataSets.delete} */
  async delete(key: string, call: Call): Promise<boolean> {
    this.#checkKey(key);
    return this.#sets.delete(this.#name, key, call);
  }

  /** Lists pairs page by page; a key that goes meanwhile is left out. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    this.#closing.check();
    for await (const key of this.#sets.keys(this.#name, call)) {
      if (!isBelow(key, prefix)) continue;
      const value = await this.read(key, call);
      if (value !== undefined) yield { key, value };
    }
  }

  /** Follows changes by listing again and again. */
  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    const look = async () => {
      const found = new Map<string, Uint8Array>();
      const one = new Call({ signal: call.signal, timeoutMs: Math.min(call.remainingMs, LOOK_MS) });
      for await (const { key, value } of this.list(prefix, one))
        if (value !== undefined) found.set(key, value);
      return found;
    };
    const [options, { signal: closing }] = [this.#options, this.#closing];
    yield* watchByLooking({ ...hooks, look, closing, options, usual: PACE }, call);
  }

  /** Ends watches and the connection. */
  async close(): Promise<void> {
    this.#closing.close();
    await this.#session.close();
  }

  #checkKey(key: string): void {
    this.#closing.check();
    if (Buffer.byteLength(key) > DATASET_KEY_BYTES)
      throw pvbusError(
        "ERR_KEY_TOO_LONG",
        `a key of a DataSet has at most ${DATASET_KEY_BYTES} bytes; shorten it`,
      );
  }
}

/** Whether a key is the prefix or lies below it; the prefix's last slash may be left out. */
function isBelow(key: string, prefix: string): boolean {
  const front = prefix.endsWith("/") ? prefix : `${prefix}/`;
  return prefix === "" || key.startsWith(front) || key === prefix;
}
