import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { Logger } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  WatchHooks,
} from "../../src/contract/store.js";
import { MetadataChannel } from "../../src/mdata/client/channel.js";
import { ChannelClient } from "../../src/mdata/client/client.js";
import type { WatchParts } from "../../src/mdata/client/watch.js";
import { capabilitiesOf, type Sources } from "./capabilities.js";
import { machineFacts } from "./facts.js";
import { type FoundValue, Lookup, type LookupParts } from "./lookup.js";
import { completeOptions } from "./options.js";
import { portableLayout } from "./portable.js";
import { parseKey, parsePrefix, qualifiedKey } from "./protocol/keys.js";

/** What a store works on. */
export interface KvmParts extends LookupParts {
  /** What can be done. */
  readonly capabilities: Capabilities;
  /** Times of watches. */
  readonly watching: Pick<WatchParts, "pollMs" | "confirmMs">;
  /** Whether the store is closed. */
  readonly closing: Closing;
}

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
  readonly #lookup: Lookup;

  /** @internal Opened by the provider. */
  constructor(parts: KvmParts) {
    const { channel } = parts;
    this.#parts = parts;
    this.#lookup = new Lookup(parts);
    this.capabilities = parts.capabilities;
    this.channel = channel?.client.name;
    this.portable = portableLayout(
      channel !== undefined,
      parts.statics.map(({ name }) => name),
    );
    if (channel === undefined) return;
    // Only a channel changes anything, and only there anything changes.
    this.write = (key, value, call) => this.#write(channel, key, value, call);
    this.delete = (key, call) => this.#delete(channel, key, call);
    this.watch = (prefix, call, hooks) => this.#watch(channel, prefix, call, hooks);
  }

  /** Returns a value; of a plain key the first that is found. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const found = await this.find(key, call);
    if (found !== undefined && found.key !== key)
      this.#parts.logger.debug("a plain key was found", { key, source: found.key });
    return found?.value;
  }

  /**
   * Returns a value together with the source that answered. A source that cannot be asked is passed over for a plain key; its
   * error is thrown when no other has the key.
   */
  async find(key: string, call: Call): Promise<FoundValue | undefined> {
    this.#check(call);
    return this.#lookup.find(parseKey(key), call);
  }

  /**
   * Erases a value from the host's side of the channel. What fw_cfg and SMBIOS hold stays until the machine is powered off.
   * @throws PvbusError `ERR_CONFLICT` when it is not the expected value
   */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    this.#check(call);
    const { channel } = this.#parts;
    const found = await this.#lookup.find(parseKey(key), call);
    if (found === undefined) return "host";
    if (channel === undefined || found.source !== "meta") return "no";
    if (expected !== undefined && Buffer.compare(found.value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", "the key has another value by now; read it again");
    const { name } = parseKey(found.key);
    await channel.delete(name, call);
    return (await channel.get(name, call)) === undefined ? "host" : "no";
  }

  /** Reports whether only fw_cfg and SMBIOS can have a key: they were fixed when the machine started. */
  isFixed(key: string): boolean {
    const { source } = parsePrefix(key);
    return source === undefined ? this.#parts.channel === undefined : source !== "meta";
  }

  /**
   * Lists qualified keys: of all sources, of one, or of those with a beginning. A plain prefix lists plain keys, each once. A
   * source that cannot be asked is an error when the others are through.
   */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    this.#check(call);
    for await (const entry of this.#lookup.list(parsePrefix(prefix), call)) {
      yield entry;
      this.#check(call);
    }
  }

  /** Returns the machine's id and name, and what its firmware says. A host that does not answer tells nothing. */
  async facts(call: Call): Promise<MachineFacts> {
    this.#check(call);
    return machineFacts(async (key) => (await this.#lookup.tryFind(parseKey(key), call))?.value);
  }

  /** Closes the channel and ends watches. */
  async close(): Promise<void> {
    this.#parts.closing.close();
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
    this.#parts.closing.check();
    const { source, name } = parsePrefix(prefix);
    const closing = this.#parts.closing.signal;
    if (source !== undefined && source !== "meta") {
      // What was fixed when the machine started does not change.
      const { watchLoop, UNCHANGING } = await import("../../src/base/flow/watch-loop.js");
      yield* watchLoop(UNCHANGING, { ready: hooks.ready, closing }, call);
      return;
    }
    const { watchChannel } = await import("../../src/mdata/client/watch.js");
    const isPlain = source === undefined && name !== "";
    const parts = { channel, prefix: name, ...this.#parts.watching, ready: hooks.ready, closing };
    for await (const { key, value } of watchChannel(parts, call)) {
      if (!isPlain) yield { key: qualifiedKey("meta", key), value };
      // Behind a plain key that is gone from the channel there may be one that was there from the start.
      else yield { key, value: value ?? (await this.#lookup.staticValue(key, call)) };
    }
  }

  /** Returns the channel's key of a key to be changed. */
  #channelName(key: string): string {
    const { source, name } = parseKey(key);
    if (source === undefined || source === "meta") return name;
    const what = source === "fwcfg" ? "fw_cfg" : "SMBIOS";
    throw pvbusError("ERR_READ_ONLY", `${what} was fixed when the machine started; write to meta/ instead`);
  }

  #check(call: Call): void {
    this.#parts.closing.check();
    call.check("the store");
  }
}

/**
 * Makes a store on the sources of a machine; the channel is opened on first use.
 * @param interfaceClosing fires when the interface is closed
 * @throws TypeError for unknown or malformed settings
 */
export function openKvmStore(
  logger: Logger,
  sources: Sources,
  target: StoreTarget,
  interfaceClosing?: AbortSignal,
): KvmStore {
  const options = completeOptions(target.options);
  const { transport, statics } = sources;
  const { maxLineBytes, portName, pollMs, confirmMs } = options;
  const closing = new Closing(interfaceClosing);
  return new KvmStore({
    channel: transport && new MetadataChannel(new ChannelClient(transport, options, closing), maxLineBytes),
    statics,
    capabilities: capabilitiesOf(sources),
    portName,
    watching: { pollMs, confirmMs },
    closing,
    logger,
  });
}
