import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Logger } from "../../src/base/host/host.js";
import { putEntry } from "../../src/base/own.js";
import type { MachineFacts, RawEntry } from "../../src/contract/store.js";
import type { MetadataChannel } from "../../src/mdata/client/channel.js";
import { NO_CHANNEL } from "./capabilities.js";
import { type KvmKey, parseKey, qualifiedKey, type SourceName } from "./protocol/keys.js";
import type { StaticSource } from "./static/source.js";

/** A value and where it was found. */
export interface FoundValue {
  /** The source that answered. */
  readonly source: SourceName;
  /** The qualified key: it reaches this value alone. */
  readonly key: string;
  /** The value's bytes. */
  readonly value: Uint8Array;
}

/** A static source, or the channel as one. */
type ValueSource = Omit<StaticSource, "name"> & { readonly name: SourceName };

/** Values of a listing that are asked for ahead. */
const READ_AHEAD = 8;
/** A source that cannot be asked; the next one may still answer. */
const NOT_ASKED: readonly string[] = ["ERR_UNAVAILABLE", "ERR_PERMISSION"];
/** Where each fact is looked for, the strongest key first; `sdc:` are the names of SmartOS. */
const VM_NAME = ["meta/sdc:alias", "meta/sdc:hostname"];
const VM_ID = ["meta/sdc:uuid", "smbios/system/uuid"];
const OTHER: Readonly<Record<string, string>> = {
  manufacturer: "smbios/system/manufacturer",
  product: "smbios/system/product-name",
  version: "smbios/system/version",
  family: "smbios/system/family",
  sku: "smbios/system/sku-number",
  serial: "smbios/system/serial-number",
  assetTag: "smbios/chassis/asset-tag",
};

/** Finds and lists keys over all sources, in the order in which they are asked. */
export class Lookup {
  readonly #sources: readonly ValueSource[];
  readonly #logger: Logger;

  constructor(sources: readonly ValueSource[], logger: Logger) {
    this.#sources = sources;
    this.#logger = logger;
  }

  /** Returns a value; of a plain key the first that is found. A source that cannot be asked is an error when no other has it. */
  async find({ source, name }: KvmKey, call: Call): Promise<FoundValue | undefined> {
    if (source !== undefined) {
      const [only] = this.#named(source);
      return only && findIn(only, name, call);
    }
    let notAsked: PvbusError | undefined;
    for (const each of this.#sources) {
      try {
        const found = await findIn(each, each.nameOf(name), call);
        if (found !== undefined) return found;
      } catch (error) {
        if (!isNotAsked(error)) throw error;
        this.#logger.warn("a source cannot be asked", { source: each.name, why: error.message });
        notAsked ??= error;
      }
    }
    if (notAsked !== undefined) throw notAsked;
    return undefined;
  }

  /** Returns the value that a plain key has besides the channel. */
  async staticValue(key: string, call: Call): Promise<Uint8Array | undefined> {
    for (const source of this.#sources.filter(({ name }) => name !== "meta")) {
      const value = await this.#tryFind({ source: source.name, name: source.nameOf(key) }, call);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  /** Lists what begins so: qualified keys, or plain ones, each once, for a plain beginning. */
  async *list({ source, name }: KvmKey, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const isPlain = source === undefined && name !== "";
    const seen = new Set<string>();
    let failure: PvbusError | undefined;
    for (const each of source === undefined ? this.#sources : this.#named(source)) {
      try {
        for await (const entry of each.list(isPlain ? each.nameOf(name) : name, call)) {
          const key = isPlain ? each.keyOf(entry.name) : qualifiedKey(each.name, entry.name);
          if (key === undefined || seen.has(key)) continue;
          if (isPlain) seen.add(key);
          yield { key, value: entry.value };
        }
      } catch (error) {
        if (!isNotAsked(error)) throw error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Puts together what the host tells about the machine. */
  async facts(call: Call): Promise<MachineFacts> {
    const text = async (keys: readonly string[]): Promise<string | undefined> => {
      for (const key of keys) {
        const value = Buffer.from((await this.#tryFind(parseKey(key), call)) ?? []).toString("utf8");
        if (value !== "") return value;
      }
      return undefined;
    };
    const vmName = await text(VM_NAME);
    const vmId = await text(VM_ID);
    const other: Record<string, string> = {};
    for (const [name, key] of Object.entries(OTHER)) {
      const value = await text([key]);
      if (value !== undefined) putEntry(other, name, value);
    }
    return {
      ...(vmName === undefined ? {} : { vmName }),
      ...(vmId === undefined ? {} : { vmId }),
      ...(Object.keys(other).length === 0 ? {} : { other }),
    };
  }

  /** A source that cannot be asked has nothing. */
  async #tryFind(key: KvmKey, call: Call): Promise<Uint8Array | undefined> {
    try {
      return (await this.find(key, call))?.value;
    } catch (error) {
      if (isNotAsked(error)) return undefined;
      throw error;
    }
  }

  #named(name: SourceName): readonly ValueSource[] {
    const found = this.#sources.filter((each) => each.name === name);
    if (found.length > 0 || name !== "meta") return found;
    throw pvbusError("ERR_UNAVAILABLE", NO_CHANNEL);
  }
}

async function findIn(source: ValueSource, name: string, call: Call): Promise<FoundValue | undefined> {
  const value = await source.read(name, call);
  return value && { source: source.name, key: qualifiedKey(source.name, name), value };
}

/** Makes a source of a channel. Keys that vanish while they are listed are left out. */
export function channelSource(channel: MetadataChannel): ValueSource {
  return {
    name: "meta",
    read: (name, call) => channel.get(name, call),
    nameOf: (key) => key,
    keyOf: (name) => name,
    async *list(prefix, call) {
      const names = (await channel.keys(call)).filter((name) => name.startsWith(prefix));
      for (let at = 0; at < names.length; at += READ_AHEAD) {
        const some = names.slice(at, at + READ_AHEAD);
        const values = await Promise.all(some.map((name) => channel.get(name, call)));
        for (const [index, name] of some.entries())
          if (values[index] !== undefined) yield { name, value: values[index] };
      }
    },
  };
}

function isNotAsked(error: unknown): error is PvbusError {
  return PvbusError.is(error) && NOT_ASKED.includes(error.code);
}
