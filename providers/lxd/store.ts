import { PvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Closing } from "../../src/base/flow/closing.js";
import { type WatchPace, watchLoop } from "../../src/base/flow/watch-loop.js";
import type { Logger } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  ReadySignal,
  ReadyState,
  WatchHooks,
} from "../../src/contract/store.js";
import { CAPABILITIES } from "./capabilities.js";
import type { LxdClient } from "./client.js";
import { EventFeed, type FeedTimes } from "./feed.js";
import { ifNotTooLong, TOO_LONG } from "./long-values.js";
import { PORTABLE } from "./portable.js";
import { decodeMetaData, type Instance } from "./protocol/answers.js";
import { checkKey, isBelow, META_DATA } from "./protocol/keys.js";
import { isPassing } from "./transport/failures.js";
import type { LxdTransport } from "./transport/transport.js";
import { KeyFollower } from "./watch.js";

/** Looks that nothing tells the watch to take: `cloud-init.` has no events, and a stream goes on when the API was switched off. */
const PACE = { firstMs: 5_000, longestMs: 30_000, factor: 2 } as const;
const SIGNAL = "instance state";

/** What a store is made of. */
export interface LxdStoreParts {
  readonly client: LxdClient;
  readonly instance: Instance;
  readonly transport: LxdTransport;
  readonly logger: Logger;
  readonly closing: Closing;
  /** Stands in for the usual times of the stream in tests. */
  readonly times?: Partial<FeedTimes> | undefined;
  /** The same for looks that nothing asks for. */
  readonly pace?: WatchPace | undefined;
}

/**
 * The keys that the host gives to this instance: `user.*` and `cloud-init.*`, and under `meta-data` what cloud-init reads. The
 * guest changes none of them.
 */
export class LxdStore implements ProviderStore {
  readonly capabilities: Capabilities = CAPABILITIES;
  readonly portable: PortableLayout = PORTABLE;
  /** What the API said of this instance when the store was opened. */
  readonly instance: Instance;
  readonly #client: LxdClient;
  readonly #transport: LxdTransport;
  readonly #closing: Closing;
  readonly #logger: Logger;
  readonly #feed: EventFeed;
  readonly #pace: WatchPace;

  /** @internal Opened by the provider. */
  constructor({ client, instance, transport, logger, closing, times, pace = PACE }: LxdStoreParts) {
    this.instance = instance;
    this.#client = client;
    this.#transport = transport;
    this.#closing = closing;
    this.#logger = logger;
    this.#pace = pace;
    this.#feed = new EventFeed({ client, transport, closing, logger }, times);
  }

  /** Reads a value; a key with an empty value does not exist. */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    this.#check(call);
    checkKey(key);
    return this.#client.value(key, call);
  }

  /** Lists the keys with their values, sorted; one that is too long comes without it. Each value is a request of its own. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    for (const key of await this.keys(call)) {
      const turn = call.turn("the listing");
      if (turn !== undefined) await turn;
      if (!isBelow(key, prefix)) continue;
      this.#check(call);
      const value = await ifNotTooLong(this.#client.value(key, call));
      // Gone since the list was made.
      if (value !== undefined) yield { key, value: value === TOO_LONG ? undefined : value };
    }
  }

  /** Follows the keys below a prefix, through restarts of the daemon and while the API is switched off. */
  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    if (call.isOver) return;
    this.#closing.check();
    const follower = new KeyFollower(this.#client, this.#feed, prefix, this.#logger);
    yield* watchLoop(
      follower,
      { ready: hooks.ready, closing: this.#closing.signal, pace: this.#pace, isPassing },
      call,
    );
  }

  /** Returns the visible keys alone, sorted. */
  async keys(call: Call): Promise<string[]> {
    this.#check(call);
    return this.#client.keys(call);
  }

  /** Nothing of what the host gave can be erased from here. */
  async erase(key: string, call: Call): Promise<Erased> {
    this.#check(call);
    checkKey(key);
    return "no";
  }

  /** Returns the instance's name and id, its kind and state, and where it runs. */
  async facts(call: Call): Promise<MachineFacts> {
    this.#check(call);
    const { type, state, location } = await this.#client.instance(call);
    const text = await this.#client.value(META_DATA, call);
    const { id, name } = decodeMetaData(text === undefined ? "" : text.toString("utf8"));
    const { product } = this.#transport;
    const isNamed = location !== "" && !/^\(?none\)?$/.test(location);
    return {
      ...(name === undefined ? {} : { vmName: name }),
      ...(id === undefined ? {} : { vmId: id }),
      ...(isNamed ? { hostName: location } : {}),
      other: { ...(product === undefined ? {} : { product }), instanceType: type, location, state },
    };
  }

  /** Tells the host by the instance's state that this guest is up; there is no state for a guest that has failed. */
  async ready({ ready }: ReadyState, call: Call): Promise<readonly ReadySignal[]> {
    this.#check(call);
    if (!ready)
      return [
        {
          signal: SIGNAL,
          sent: false,
          detail: "LXD and Incus have no state for an instance that has failed",
        },
      ];
    try {
      const why = await this.#client.tellState("Ready", call);
      this.#feed.isReady = why === undefined;
      return [{ signal: SIGNAL, sent: why === undefined, detail: why ?? "Ready" }];
    } catch (error) {
      if (!PvbusError.is(error) || call.isEnd(error)) throw error;
      return [{ signal: SIGNAL, sent: false, detail: `${error.message} [${error.code}]` }];
    }
  }

  /** Closes all connections. */
  async close(): Promise<void> {
    this.#closing.close();
    this.#client.close();
  }

  #check(call: Call): void {
    this.#closing.check();
    call.check("the guest API");
  }
}
