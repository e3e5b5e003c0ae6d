import { pvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { PortableLayout, ProviderStore, RawEntry, WatchHooks } from "../../src/contract/store.js";
import { dataSetCapabilities } from "./capabilities.js";
import { VmwareDataSets } from "./data-sets.js";
import type { VmwareOptions } from "./options.js";
import { dataSetLayout } from "./portable.js";
import { DATASET_KEY_BYTES, DATASET_VALUE_BYTES } from "./protocol/limits.js";
import type { RpciSession } from "./session.js";
import { type Look, paceOf, watchByLooking } from "./watch.js";

const PACE = { firstMs: 1_000, longestMs: 10_000 };
const LOOK_MS = 30_000;

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
    const look: Look = async () => {
      const found = new Map<string, Uint8Array>();
      const one = new Call({ signal: call.signal, timeoutMs: Math.min(call.remainingMs, LOOK_MS) });
      for await (const { key, value } of this.list(prefix, one))
        if (value !== undefined) found.set(key, value);
      return found;
    };
    const { signal: closing } = this.#closing;
    yield* watchByLooking(look, { ...hooks, closing, pace: paceOf(this.#options, PACE) }, call);
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
