import { PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import { SerialQueue } from "../../src/base/flow/queues.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  WatchHooks,
} from "../../src/contract/store.js";
import { IGNITION_CONFIG } from "./boot-data.js";
import { CAPABILITIES } from "./capabilities.js";
import { machineFacts } from "./facts.js";
import { PORTABLE_LAYOUT } from "./portable.js";
import {
  encodeFlags,
  hasWildcard,
  MAX_NAME_BYTES,
  type Property,
  type PropertyFlag,
} from "./protocol/properties.js";
import { PropertySession } from "./session.js";
import type { DriverFile } from "./transport/driver-file.js";
import { PropertyWaiter } from "./waiter.js";
import { watchProperties } from "./watch.js";

/**
 * VirtualBox' guest properties: text by name, shared by host and guest, each with a time and flags. Keys are the names, byte for
 * byte. A write keeps the flags that a property has; {@link VirtualBoxStore.setProperty} sets them.
 */
export class VirtualBoxStore implements ProviderStore {
  /** What can be done. */
  readonly capabilities: Capabilities = CAPABILITIES;
  /** Where portable keys live: below `/pvbus/`. */
  readonly portable: PortableLayout = PORTABLE_LAYOUT;
  readonly #session: PropertySession;
  readonly #waiter: PropertyWaiter;
  readonly #closing: Closing;
  /** What reads and then writes must not be mixed with another such step of this store. */
  readonly #changes = new SerialQueue();

  /** @internal Opened by the provider. */
  constructor(host: Host, open: () => DriverFile, closing?: AbortSignal) {
    this.#closing = new Closing(closing);
    this.#session = new PropertySession(open);
    this.#waiter = new PropertyWaiter(open, this.#session, host.logger);
  }

  /** Names the open driver: `/dev/vboxguest`; undefined before it is open. */
  get over(): string | undefined {
    return this.#session.over;
  }

  /** @internal Connects, so that whoever opens a store hears what is missing. */
  async connect(call: Call): Promise<void> {
    await this.#session.connect(call);
  }

  /** Reads a property's value. @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`, … */
  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    return (await this.property(key, call))?.value;
  }

  /** Reads a property with its flags and the time of its last change. @throws as {@link VirtualBoxStore.read} */
  async property(name: string, call: Call): Promise<Property | undefined> {
    this.#closing.check();
    return this.#session.get(name, call);
  }

  /** Returns the properties whose names match a pattern of VirtualBox: `*`, `?`, and `|` between alternatives; empty: all. */
  async properties(pattern: string, call: Call): Promise<readonly Property[]> {
    this.#closing.check();
    return this.#session.enumerate(pattern, call);
  }

  /**
   * Sets a value and keeps the flags that the property has. VirtualBox has no such step: whoever changes the flags in the moment
   * between the reading and the writing loses that.
   * @throws PvbusError before anything is sent where name or value do not fit; `ERR_READ_ONLY` for VirtualBox' own properties,
   *   those that the host keeps, and hosts that take nothing; `ERR_NO_SPACE` where there are 256
   */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    this.#closing.check();
    await this.#changes.run(call, "another change", async () => {
      const flags = (await this.#session.get(key, call))?.flags ?? [];
      await this.#session.set(key, value, flags, call);
    });
  }

  /**
   * Sets a value and its flags; those that it had are gone.
   * @throws TypeError for what is no flag, and as {@link VirtualBoxStore.write}
   */
  async setProperty(
    name: string,
    value: Uint8Array | string,
    flags: readonly PropertyFlag[],
    call: Call,
  ): Promise<void> {
    this.#closing.check();
    encodeFlags(flags);
    const bytes = typeof value === "string" ? Buffer.from(value) : value;
    await this.#changes.run(call, "another change", () => this.#session.set(name, bytes, flags, call));
  }

  /** Removes a property. @throws PvbusError `ERR_READ_ONLY` as {@link VirtualBoxStore.write} */
  async delete(key: string, call: Call): Promise<boolean> {
    this.#closing.check();
    return this.#changes.run(call, "another change", async () => {
      if ((await this.#session.get(key, call)) === undefined) return false;
      await this.#session.delete(key, call);
      return true;
    });
  }

  /**
   * Erases a property; what the host keeps from guests stays.
   * @throws PvbusError `ERR_CONFLICT` when it is not the expected value
   */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    this.#closing.check();
    return this.#changes.run(call, "another change", async () => {
      const found = await this.#session.get(key, call);
      if (found === undefined) return "host";
      if (expected !== undefined && Buffer.compare(found.value, expected) !== 0)
        throw pvbusError("ERR_CONFLICT", "the key has another value by now; read it again");
      try {
        await this.#session.delete(key, call);
      } catch (error) {
        if (PvbusError.is(error) && error.code === "ERR_READ_ONLY") return "no";
        throw error;
      }
      return (await this.#session.get(key, call)) === undefined ? "host" : "no";
    });
  }

  /** Yields properties by name; Ignition's configuration, which may hold secrets, only below its own prefix. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    this.#closing.check();
    call.check("the listing");
    // No name has a wildcard or is longer.
    if (hasWildcard(prefix) || Buffer.byteLength(prefix) > MAX_NAME_BYTES) return;
    for (const { name, value } of await this.#session.enumerate(`${prefix}*`, call)) {
      this.#closing.check();
      if (!isHidden(name, prefix)) yield { key: name, value };
    }
  }

  /** Follows the properties below a prefix; what {@link VirtualBoxStore.list} leaves out is left out. */
  watch(prefix: string, call: Call, { ready }: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    this.#closing.check();
    return watchProperties(
      {
        waiter: this.#waiter,
        prefix,
        isHidden: (name) => isHidden(name, prefix),
        ready,
        closing: this.#closing.signal,
      },
      call,
    );
  }

  /** Returns what the host says of itself and of the machine. */
  async facts(call: Call): Promise<MachineFacts> {
    this.#closing.check();
    return machineFacts(this.#session, call);
  }

  /** Ends watches and connections. */
  async close(): Promise<void> {
    this.#closing.close();
    await Promise.all([this.#waiter.close(), this.#session.close()]);
  }
}

function isHidden(name: string, prefix: string): boolean {
  return name === IGNITION_CONFIG && !prefix.startsWith("/Ignition/");
}
