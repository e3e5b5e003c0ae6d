import { type PvbusErrorCode, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { peerWords } from "../../src/base/outside-text.js";
import { ownEntry } from "../../src/base/own.js";
import { command, HostRefusal, UNKNOWN_COMMAND, wordsOf } from "./protocol/rpci.js";
import type { RpciSession } from "./session.js";

/** A DataSet as the host lists it. */
export interface DataSetInfo {
  /** Its name. */
  readonly name: string;
  /** What the administrator wrote about it. */
  readonly description: string;
}

/** Fields of a reply; all of it comes from outside. */
type Reply = Readonly<Record<string, unknown>>;

/** The failure of a DataSet command with the host's own id. */
export class DataSetFailure extends HostRefusal {
  /** `invalid-argument`, … */
  readonly id: string;

  /** @param id the host's @param words the host's message */
  constructor(id: string, words: string) {
    super(words);
    this.id = id;
  }
}

/** Bytes of a command's arguments that surely fit. */
const MAX_ARGUMENTS_BYTES = 63 * 1024;
const CODE_OF_ID: readonly (readonly [RegExp, PvbusErrorCode])[] = [
  [/read.?only/, "ERR_READ_ONLY"],
  [/access|permission|denied/, "ERR_PERMISSION"],
  [/space|quota|limit|full/, "ERR_NO_SPACE"],
  [/argument|invalid/, "ERR_VALUE_INVALID"],
  [/busy|again/, "ERR_BUSY"],
];

/**
 * DataSets of a virtual machine (vSphere 8, hardware version 20): named stores that the host makes, with listing and
 * removal. The guest's program must be privileged. Source: Broadcom Guest SDK, "DataSets for Guest Management".
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
    const { datasets } = await this.#ask("datasets-list", undefined, call);
    return arrayOf(datasets, "datasets").map((each) => {
      const { name, description } = each as { name?: unknown; description?: unknown };
      if (typeof name !== "string") throw malformed("a dataset has no name");
      return { name, description: typeof description === "string" ? description : "" };
    });
  }

  /** Returns what the host says of one DataSet. @throws as {@link VmwareDataSets.list} */
  async query(dataset: string, call: Call): Promise<Reply> {
    const { result: _, ...rest } = await this.#ask("datasets-query", { dataset }, call);
    return rest;
  }

  /** Yields the keys of a DataSet, page by page. @throws as {@link VmwareDataSets.list} */
  async *keys(dataset: string, call: Call): AsyncGenerator<string, void, undefined> {
    const contexts = new Set<string>();
    for (let context: string | undefined; ; ) {
      const reply = await this.#ask("datasets-list-keys", { dataset, context }, call);
      for (const key of arrayOf(reply["keys"], "keys")) {
        if (typeof key !== "string") throw malformed("a key is no text");
        yield key;
      }
      const next = reply["context"];
      if (typeof next !== "string" || next === "") return;
      if (contexts.has(next)) throw malformed("the pages of a listing run in a circle");
      contexts.add(next);
      context = next;
    }
  }

  /** Returns a value; undefined when there is no such key. @throws as {@link VmwareDataSets.list} */
  async get(dataset: string, key: string, call: Call): Promise<string | undefined> {
    const reply = await this.#reply("datasets-get-entry", { dataset, keys: [key] }, call);
    const failure = failureOf(reply);
    if (failure === undefined) return valueIn(arrayOf(reply["entries"], "entries"), key);
    // The host's id for a missing key is not documented: the listing tells.
    if (!(await this.has(dataset, key, call))) return undefined;
    throw failed("datasets-get-entry", failure);
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
    const room = MAX_ARGUMENTS_BYTES - jsonBytes({ dataset, entries: [{ key, value: "" }], append: true });
    let rest = value;
    let append = false;
    do {
      const piece = rest.slice(0, pieceLength(rest, room));
      await this.#ask(
        "datasets-set-entry",
        { dataset, entries: [{ key, value: piece }], ...(append ? { append } : {}) },
        call,
      );
      rest = rest.slice(piece.length);
      append = true;
    } while (rest !== "");
  }

  /** Removes a key. @returns whether it was there. @throws as {@link VmwareDataSets.set} */
  async delete(dataset: string, key: string, call: Call): Promise<boolean> {
    const there = await this.has(dataset, key, call);
    if (there) await this.#ask("datasets-delete-entry", { dataset, keys: [key] }, call);
    return there;
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

  async #ask(name: string, args: object | undefined, call: Call): Promise<Reply> {
    const reply = await this.#reply(name, args, call);
    const failure = failureOf(reply);
    if (failure !== undefined) throw failed(name, failure);
    return reply;
  }

  async #reply(name: string, args: object | undefined, call: Call): Promise<Reply> {
    const json = args === undefined ? "" : JSON.stringify(args);
    const repeatable = args === undefined || !("append" in args);
    const send = (as: string): Promise<Uint8Array> =>
      this.#session.value(command(as, json, { repeatable, privileged: true }), call);
    const text = Buffer.from(await this.#spelled(name, send)).toString("utf8");
    try {
      const reply: unknown = JSON.parse(text);
      if (typeof reply === "object" && reply !== null && "result" in reply) return reply as Reply;
    } catch (cause) {
      throw malformed(`the reply to ${name} is no JSON`, cause);
    }
    throw malformed(`the reply to ${name} has no result`);
  }
}

function failureOf(reply: Reply): DataSetFailure | undefined {
  if (reply["result"] === true) return undefined;
  return new DataSetFailure(textIn(reply["error-id"]) ?? "unknown", textIn(reply["error-message"]) ?? "");
}

/** Texts and numbers alone: whatever else JSON holds may have no text, `{"toString":1}` for one. */
function textIn(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" ? peerWords(`${value}`) : undefined;
}

function failed(name: string, failure: DataSetFailure): Error {
  const code = CODE_OF_ID.find(([pattern]) => pattern.test(failure.id))?.[1] ?? "ERR_PERMISSION";
  return pvbusError(
    code,
    `the host refused ${name} (${JSON.stringify(failure.id)}: ${JSON.stringify(failure.words)}); see the DataSet on the host`,
    { cause: failure },
  );
}

/** Entries come as `{ key: value }`; the other spelling of the vendor's pages is taken too. */
function valueIn(entries: readonly unknown[], key: string): string | undefined {
  for (const entry of entries) {
    const pair = entry as Readonly<Record<string, unknown>>;
    const value = ownEntry(pair, key) ?? (pair["key"] === key ? pair["value"] : undefined);
    if (typeof value === "string") return value;
  }
  throw malformed("the value that was asked for is not in the reply");
}

function arrayOf(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value) && value.every((each) => each !== null && each !== undefined)) return value;
  throw malformed(`${what} is no list`);
}

function malformed(why: string, cause?: unknown): Error {
  return pvbusError("ERR_PROTOCOL", `the host's answer about DataSets is malformed: ${why}`, { cause });
}

function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}

/** Characters from the front whose JSON fits, never half a surrogate pair. */
function pieceLength(text: string, room: number): number {
  let length = Math.min(text.length, room);
  while (length > 1 && jsonBytes(text.slice(0, length)) - 2 > room) length = Math.ceil(length * 0.75) - 1;
  const last = text.charCodeAt(length - 1);
  const isSplit = length > 1 && length < text.length && last >= 0xd800 && last < 0xdc00;
  return isSplit ? length - 1 : length;
}
