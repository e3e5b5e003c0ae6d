import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Logger } from "../../src/base/host/host.js";
import type { RawEntry } from "../../src/contract/store.js";
import type { MetadataChannel } from "../../src/mdata/client/channel.js";
import { channelAdvice } from "./advice.js";
import { type KvmKey, qualifiedKey, type SourceName } from "./protocol/keys.js";
import type { StaticSource } from "./static/source.js";

/** What a look-up works on. */
export interface LookupParts {
  /** The metadata channel; undefined where there is none. */
  readonly channel: MetadataChannel | undefined;
  /** The sources that do not change, in the order in which they are asked. */
  readonly statics: readonly StaticSource[];
  /** Name of the port that the host would have to add. */
  readonly portName: string;
  /** Receives messages. */
  readonly logger: Logger;
}

/** A value and where it was found. */
export interface FoundValue {
  /** The source that answered. */
  readonly source: SourceName;
  /** The qualified key: it reaches this value alone. */
  readonly key: string;
  /** The value's bytes. */
  readonly value: Uint8Array;
}

/** Values of a listing that are asked for ahead. */
const READ_AHEAD = 8;
/** A source that cannot be asked; the next one may still answer. */
const NOT_ASKED: readonly string[] = ["ERR_UNAVAILABLE", "ERR_PERMISSION"];

/** Finds and lists keys over all sources. */
export class Lookup {
  readonly #parts: LookupParts;

  constructor(parts: LookupParts) {
    this.#parts = parts;
  }

  /** Returns a value; of a plain key the first that is found. A source that cannot be asked is an error when no other has it. */
  async find({ source, name }: KvmKey, call: Call): Promise<FoundValue | undefined> {
    if (source !== undefined) return this.#findIn(source, name, call);
    let notAsked: PvbusError | undefined;
    for (const [each, inside] of this.#namesOf(name)) {
      try {
        const found = await this.#findIn(each, inside, call);
        if (found !== undefined) return found;
      } catch (error) {
        if (!isNotAsked(error)) throw error;
        this.#parts.logger.warn("a source cannot be asked", { source: each, why: error.message });
        notAsked ??= error;
      }
    }
    if (notAsked !== undefined) throw notAsked;
    return undefined;
  }

  /** The same, for whom a source that cannot be asked has nothing. */
  async tryFind(key: KvmKey, call: Call): Promise<FoundValue | undefined> {
    try {
      return await this.find(key, call);
    } catch (error) {
      if (isNotAsked(error)) return undefined;
      throw error;
    }
  }

  /** Returns the value that a plain key has besides the channel. */
  async staticValue(key: string, call: Call): Promise<Uint8Array | undefined> {
    for (const source of this.#parts.statics) {
      const found = await this.tryFind({ source: source.name, name: source.nameOf(key) }, call);
      if (found !== undefined) return found.value;
    }
    return undefined;
  }

  /** Lists what begins so: qualified keys, or plain ones, each once, for a plain beginning. */
  async *list({ source, name }: KvmKey, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const isPlain = source === undefined && name !== "";
    const seen = new Set<string>();
    let failure: PvbusError | undefined;
    for (const each of source === undefined ? this.#sources() : [source]) {
      try {
        for await (const entry of isPlain
          ? this.#plainEntries(each, name, call)
          : this.#entries(each, name, call)) {
          if (!isPlain || !seen.has(entry.key)) yield entry;
          if (isPlain) seen.add(entry.key);
        }
      } catch (error) {
        if (!isNotAsked(error)) throw error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  async #findIn(source: SourceName, name: string, call: Call): Promise<FoundValue | undefined> {
    const value =
      source === "meta"
        ? await this.#channel().get(name, call)
        : await this.#static(source)?.read(name, call);
    return value && { source, key: qualifiedKey(source, name), value };
  }

  async *#entries(source: SourceName, prefix: string, call: Call): AsyncGenerator<RawEntry> {
    if (source === "meta") {
      for await (const { key, value } of this.#channelEntries(prefix, call))
        yield { key: qualifiedKey(source, key), value };
      return;
    }
    for await (const { name, value } of this.#static(source)?.list(prefix, call) ?? [])
      yield { key: qualifiedKey(source, name), value };
  }

  async *#plainEntries(source: SourceName, prefix: string, call: Call): AsyncGenerator<RawEntry> {
    if (source === "meta") {
      yield* this.#channelEntries(prefix, call);
      return;
    }
    const statics = this.#static(source);
    for await (const { name, value } of statics?.list(statics.nameOf(prefix), call) ?? []) {
      const key = statics?.keyOf(name);
      if (key !== undefined) yield { key, value };
    }
  }

  /** Keys that vanish while they are listed are left out. */
  async *#channelEntries(prefix: string, call: Call): AsyncGenerator<RawEntry> {
    const channel = this.#channel();
    const keys = (await channel.keys(call)).filter((key) => key.startsWith(prefix));
    for (let at = 0; at < keys.length; at += READ_AHEAD) {
      const some = keys.slice(at, at + READ_AHEAD);
      const values = await Promise.all(some.map((key) => channel.get(key, call)));
      for (const [index, key] of some.entries())
        if (values[index] !== undefined) yield { key, value: values[index] };
    }
  }

  /** Returns the sources of a plain key with its name in each, the strongest first. */
  #namesOf(key: string): [SourceName, string][] {
    const statics = this.#parts.statics.map((each): [SourceName, string] => [each.name, each.nameOf(key)]);
    return this.#parts.channel === undefined ? statics : [["meta", key], ...statics];
  }

  #sources(): SourceName[] {
    const statics = this.#parts.statics.map(({ name }) => name);
    return this.#parts.channel === undefined ? statics : ["meta", ...statics];
  }

  #static(name: SourceName): StaticSource | undefined {
    return this.#parts.statics.find((each) => each.name === name);
  }

  #channel(): MetadataChannel {
    const { channel, portName } = this.#parts;
    if (channel !== undefined) return channel;
    throw pvbusError("ERR_UNAVAILABLE", `this machine has no metadata channel; ${channelAdvice(portName)}`);
  }
}

function isNotAsked(error: unknown): error is PvbusError {
  return PvbusError.is(error) && NOT_ASKED.includes(error.code);
}
