import { setMaxListeners } from "node:events";
import type { Call } from "../../src/bus/call.js";
import type { Capabilities } from "../../src/bus/capabilities.js";
import { PvbusError, pvbusError } from "../../src/bus/errors.js";
import type {
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  WatchHooks,
} from "../../src/bus/store.js";
import type { Logger } from "../../src/host/host.js";
import { channelAdvice } from "./advice.js";
import type { MetadataChannel } from "./channel/metadata.js";
import type { WatchParts } from "./channel/watch.js";
import { machineFacts } from "./facts.js";
import { parseKey, parsePrefix, qualifiedKey, type SourceName } from "./keys.js";
import type { StaticSource } from "./static/source.js";

/** What a store works on. */
export interface KvmParts {
  /** The metadata channel; undefined where there is none. */
  readonly channel: MetadataChannel | undefined;
  /** The sources that do not change, in the order in which they are asked. */
  readonly statics: readonly StaticSource[];
  /** What can be done. */
  readonly capabilities: Capabilities;
  /** Name of the port that the host would have to add. */
  readonly portName: string;
  /** Times of watches. */
  readonly watching: Pick<WatchParts, "pollMs" | "confirmMs">;
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

/** What every metadata channel surely carries in one value. */
const CHUNK_BYTES = 16 * 1024;
/** Values of a listing that are asked for ahead. */
const READ_AHEAD = 8;
/** A source that cannot be asked; the next one may still answer. */
const NOT_ASKED: readonly string[] = ["ERR_UNAVAILABLE", "ERR_PERMISSION"];

/**
 * What a KVM guest (or another one with the same devices) has of its host: the metadata channel, fw_cfg, SMBIOS. Qualified keys
 * `meta/…`, `fwcfg/…` and `smbios/…` reach one source; a plain key is looked for in this order, and what is written under it
 * goes to the channel.
 */
export class KvmStore implements ProviderStore {
  /** What can be done, per source. */
  readonly capabilities: Capabilities;
  /** Where portable keys live. */
  readonly portable: PortableLayout;
  /** The metadata channel as the user would name it; undefined where there is none. */
  readonly channel: string | undefined;
  readonly write?: (key: string, value: Uint8Array, call: Call) => Promise<void>;
  readonly delete?: (key: string, call: Call) => Promise<boolean>;
  readonly watch?: (
    prefix: string,
    call: Call,
    hooks: WatchHooks,
  ) => AsyncGenerator<RawEntry, void, undefined>;
  readonly #parts: KvmParts;
  readonly #closing = new AbortController();

  /** @internal Opened by the provider. */
  constructor(parts: KvmParts) {
    const { channel } = parts;
    this.#parts = parts;
    this.capabilities = parts.capabilities;
    this.channel = channel?.client.name;
    this.portable = portableLayout(parts);
    setMaxListeners(0, this.#closing.signal);
    if (channel === undefined) return;
    // Only a channel changes anything, and only there anything changes.
    this.write = (key, value, call) => this.#write(channel, key, value, call);
    this.delete = (key, call) => this.#delete(channel, key, call);
    this.watch = (prefix, call, hooks) => this.#watch(channel, prefix, call, hooks);
  }

  /** Gives a value; of a plain key the first that is found. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const found = await this.find(key, call);
    if (found !== undefined && found.key !== key)
      this.#parts.logger.debug("a plain key was found", { key, source: found.key });
    return found?.value;
  }

  /**
   * Gives a value together with the source that answered. A source that cannot be asked is passed over for a plain key; its
   * error is thrown when no other has the key.
   */
  async find(key: string, call: Call): Promise<FoundValue | undefined> {
    this.#check(call);
    const { source, name } = parseKey(key);
    if (source !== undefined) return this.#findIn(source, name, call);
    let notAsked: PvbusError | undefined;
    for (const [each, inside] of this.#places(name)) {
      try {
        const found = await this.#findIn(each, inside, call);
        if (found !== undefined) return found;
      } catch (error) {
        if (!PvbusError.is(error) || !NOT_ASKED.includes(error.code)) throw error;
        this.#parts.logger.warn("a source cannot be asked", { source: each, why: error.message });
        notAsked ??= error;
      }
    }
    if (notAsked !== undefined) throw notAsked;
    return undefined;
  }

  /**
   * Lists qualified keys: of all sources, of one, or of those with a beginning. A plain prefix lists plain keys, each once. A
   * source that cannot be asked is an error when the others are through.
   */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    this.#check(call);
    const { source, name } = parsePrefix(prefix);
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
          this.#check(call);
        }
      } catch (error) {
        if (!PvbusError.is(error) || !NOT_ASKED.includes(error.code)) throw error;
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  /** Gives the machine's id and name, and what its firmware says. A host that does not answer tells nothing. */
  async facts(call: Call): Promise<MachineFacts> {
    this.#check(call);
    return machineFacts(async (key) => {
      const { source, name } = parseKey(key);
      try {
        return source && (await this.#findIn(source, name, call))?.value;
      } catch (error) {
        if (PvbusError.is(error) && NOT_ASKED.includes(error.code)) return undefined;
        throw error;
      }
    });
  }

  /** Closes the channel and ends watches. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#parts.channel?.client.close();
  }

  async #write(channel: MetadataChannel, key: string, value: Uint8Array, call: Call): Promise<void> {
    this.#check(call);
    await channel.put(this.#channelName(key), value, call);
  }

  async #delete(channel: MetadataChannel, key: string, call: Call): Promise<boolean> {
    this.#check(call);
    return channel.delete(this.#channelName(key), call);
  }

  async *#watch(
    channel: MetadataChannel,
    prefix: string,
    call: Call,
    hooks: WatchHooks,
  ): AsyncGenerator<RawEntry, void, undefined> {
    this.#check(undefined);
    const { source, name } = parsePrefix(prefix);
    const closing = this.#closing.signal;
    const { watchChannel, waitForEnd } = await import("./channel/watch.js");
    if (source !== undefined && source !== "meta") {
      // What was fixed when the machine started does not change.
      await waitForEnd(call, closing, hooks.ready);
      this.#check(undefined);
      return;
    }
    const isPlain = source === undefined && name !== "";
    const parts = { channel, prefix: name, ...this.#parts.watching, ready: hooks.ready, closing };
    for await (const { key, value } of watchChannel(parts, call)) {
      if (!isPlain) yield { key: qualifiedKey("meta", key), value };
      // Behind a plain key that is gone from the channel there may be one that was there from the start.
      else yield { key, value: value ?? (await this.#staticValue(key, call)) };
    }
  }

  async #staticValue(key: string, call: Call): Promise<Uint8Array | undefined> {
    for (const source of this.#parts.statics) {
      const value = await source.read(source.nameOf(key), call);
      if (value !== undefined) return value;
    }
    return undefined;
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

  /** The places of a plain key, the strongest first. */
  #places(key: string): [SourceName, string][] {
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

  /** Gives the channel's key of a key to be changed. */
  #channelName(key: string): string {
    const { source, name } = parseKey(key);
    if (source === undefined || source === "meta") return name;
    const what = source === "fwcfg" ? "fw_cfg" : "SMBIOS";
    throw pvbusError("ERR_READ_ONLY", `${what} was fixed when the machine started; write to meta/ instead`);
  }

  #check(call: Call | undefined): void {
    if (this.#closing.signal.aborted)
      throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
    call?.check("the store");
  }
}

function portableLayout({ channel, statics }: KvmParts): PortableLayout {
  const guestKey = (namespace: string, name: string): string => qualifiedKey("meta", `${namespace}/${name}`);
  const places: ((namespace: string, name: string) => string)[] = [];
  if (channel !== undefined) places.push(guestKey);
  for (const { name: source } of statics)
    places.push((namespace, name) =>
      qualifiedKey(source, source === "fwcfg" ? `opt/${namespace}/${name}` : `oem/${namespace}:${name}`),
    );
  return {
    hostKeys: (namespace, name) => places.map((place) => place(namespace, name)),
    guestKey: channel === undefined ? () => undefined : guestKey,
    chunkBytes: CHUNK_BYTES,
  };
}
