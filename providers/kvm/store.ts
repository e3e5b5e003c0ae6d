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
import { capabilitiesOf, type Sources } from "./capabilities.js";
import { channelSource, type FoundValue, Lookup } from "./lookup.js";
import { type CompleteOptions, completeOptions } from "./options.js";
import { portableLayout } from "./portable.js";
import { parseKey, parsePrefix, qualifiedKey } from "./protocol/keys.js";

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
  readonly #closing: Closing;
  readonly #lookup: Lookup;
  readonly #logger: Logger;
  readonly #options: CompleteOptions;
  readonly #client: ChannelClient | undefined;

  /** @internal Opened by the provider; the channel is opened on first use. */
  constructor(sources: Sources, target: StoreTarget, logger: Logger, interfaceClosing?: AbortSignal) {
    const { transport, statics } = sources;
    const options = completeOptions(target.options);
    this.#closing = new Closing(interfaceClosing);
    this.#client = transport && new ChannelClient(transport, options, this.#closing);
    const channel = this.#client && new MetadataChannel(this.#client, options.maxLineBytes);
    const all = channel === undefined ? statics : [channelSource(channel), ...statics];
    this.#lookup = new Lookup(all, logger);
    this.#logger = logger;
    this.#options = options;
    this.capabilities = capabilitiesOf(sources);
    this.channel = transport?.name;
    this.portable = portableLayout(all.map(({ name }) => name));
    if (channel === undefined) return;
    // Only a channel changes anything, and only there anything changes.
    this.write = async (key, value, call) => {
      this.#check(call);
      await channel.put(channelName(key), value, call);
    };
    this.delete = async (key, call) => {
      this.#check(call);
      return channel.delete(channelName(key), call);
    };
    this.watch = (prefix, call, hooks) => this.#watch(channel, prefix, call, hooks);
  }

  /** Returns a value; of a plain key the first that is found. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const found = await this.find(key, call);
    if (found !== undefined && found.key !== key)
      this.#logger.debug("a plain key was found", { key, source: found.key });
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
    const found = await this.find(key, call);
    if (found === undefined) return "host";
    if (found.source !== "meta") return "no";
    if (expected !== undefined && Buffer.compare(found.value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", "the key has another value by now; read it again");
    await this.delete?.(found.key, call);
    return (await this.find(found.key, call)) === undefined ? "host" : "no";
  }

  /** Reports whether only fw_cfg and SMBIOS can have a key: they were fixed when the machine started. */
  isFixed(key: string): boolean {
    const { source } = parsePrefix(key);
    return source === undefined ? this.channel === undefined : source !== "meta";
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
    return this.#lookup.facts(call);
  }

  /** Closes the channel and ends watches. */
  async close(): Promise<void> {
    this.#closing.close();
    await this.#client?.close();
  }

  async *#watch(
    channel: MetadataChannel,
    prefix: string,
    call: Call,
    hooks: WatchHooks,
  ): AsyncGenerator<RawEntry, void, undefined> {
    this.#closing.check();
    const { source, name } = parsePrefix(prefix);
    const settings = { ready: hooks.ready, closing: this.#closing.signal };
    if (source !== undefined && source !== "meta") {
      // What was fixed when the machine started does not change.
      const { watchLoop, UNCHANGING } = await import("../../src/base/flow/watch-loop.js");
      yield* watchLoop(UNCHANGING, settings, call);
      return;
    }
    const { watchChannel } = await import("../../src/mdata/client/watch.js");
    const isPlain = source === undefined && name !== "";
    const { pollMs, confirmMs } = this.#options;
    const parts = { channel, prefix: name, pollMs, confirmMs, ...settings };
    for await (const { key, value } of watchChannel(parts, call)) {
      if (!isPlain) yield { key: qualifiedKey("meta", key), value };
      // Behind a plain key that is gone from the channel there may be one that was there from the start.
      else yield { key, value: value ?? (await this.#lookup.staticValue(key, call)) };
    }
  }

  #check(call: Call): void {
    this.#closing.check();
    call.check("the store");
  }
}

function channelName(key: string): string {
  const { source, name } = parseKey(key);
  if (source === undefined || source === "meta") return name;
  const what = source === "fwcfg" ? "fw_cfg" : "SMBIOS";
  throw pvbusError("ERR_READ_ONLY", `${what} was fixed when the machine started; write to meta/ instead`);
}
