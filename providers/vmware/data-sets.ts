import type { Call } from "../../src/base/flow/call.js";
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
import { UNKNOWN_COMMAND, wordsOf } from "./protocol/rpci.js";
import type { RpciSession } from "./session.js";

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
