import { PvbusError, pvbusError } from "../../base/errors.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import { Closing } from "../../base/flow/closing.js";
import { fairTurn, turns } from "../../base/flow/turn.js";
import type { BootData } from "../../contract/boot-data.js";
import { type Capabilities, NO_CAPABILITIES, type Verbs } from "../../contract/capabilities.js";
import type { Diagnosis } from "../../contract/diagnosis.js";
import type { HostctlStore } from "../../contract/hostctl.js";
import type { KeyInterface, TakeOptions, WatchOptions } from "../../contract/key-values.js";
import type { Provider, StoreTarget } from "../../contract/provider.js";
import type { DetectedInterface, Evidence } from "../../contract/report.js";
import type {
  MachineFacts,
  ProviderStore,
  ReadySignal,
  ReadyState,
  StoreChange,
  StoreEntry,
  TakenValue,
} from "../../contract/store.js";
import { checkText, textOf, valueBytes, withText } from "./arguments.js";
import type { FollowedPrefix } from "./following.js";
import { Opening } from "./opening.js";

/** What an interface is made of. */
export interface InterfaceParts {
  /** What detection found, or what the caller named. */
  readonly detected: DetectedInterface;
  /** Whether it is the machine's real hypervisor. */
  readonly primary: boolean;
  /** The provider; undefined when none serves this type. */
  readonly provider?: Provider | undefined;
  /** Loads the provider where it is not there yet: opening the bus goes on when that fails. */
  readonly load?: ((call: Call) => Promise<Provider>) | undefined;
  /** Where boot configuration lives on its store. */
  readonly bootData?: BootData | undefined;
  /** What the provider declares before it is opened. */
  readonly capabilities?: Capabilities | undefined;
  /** How to open the store. */
  readonly target?: StoreTarget | undefined;
}

/**
 * One hypervisor interface and, behind the same object, its store. The store opens on first use; verbs that the
 * hypervisor does not have reject with `ERR_NOT_SUPPORTED`.
 *
 * Every call accepts {@link CallOptions}; every failure is a {@link PvbusError} that names this interface and the key.
 * No call, and no loop of awaited calls, keeps other work of the process waiting for more than 10 ms, and a signal is
 * honoured within that time: each call, each entry of a listing and each change of a watch gives the event loop its turn
 * when it is due.
 */
export class PvInterface implements KeyInterface, AsyncDisposable {
  /** Number in probe order, the n of `/dev/pvbus<n>`. */
  readonly unit: number;
  /** `pvbus<unit>`. */
  readonly name: string;
  /** Lower-case id, `hyperv`. */
  readonly id: string;
  /** Type string, `Hyper-V`. */
  readonly type: string;
  /** `host` for a controlling partition, else `guest`. */
  readonly role: DetectedInterface["role"];
  /** CPUID base as `0x40000000`, null when not found through CPUID. */
  readonly base: string | null;
  /** Offered by a different hypervisor. */
  readonly emulated: boolean;
  /** True for the machine's real hypervisor. */
  readonly primary: boolean;
  /** Where boot configuration lives on its store, as its provider's manifest says. */
  readonly bootData: BootData | undefined;
  readonly #detected: DetectedInterface;
  #provider: Provider | undefined;
  readonly #load: InterfaceParts["load"];
  #capabilities: Capabilities;
  readonly #target: StoreTarget;
  #opening: Opening | undefined;
  readonly #closing: Closing;

  /** @internal Interfaces come from `openPvbus()`. */
  constructor(parts: InterfaceParts) {
    const { detected } = parts;
    this.unit = detected.unit;
    this.name = detected.name;
    this.id = detected.id;
    this.type = detected.type;
    this.role = detected.role;
    this.base = detected.base;
    this.emulated = detected.emulated;
    this.primary = parts.primary;
    this.#detected = detected;
    this.bootData = parts.bootData;
    this.#capabilities = parts.capabilities ?? NO_CAPABILITIES;
    this.#provider = parts.provider;
    this.#load = parts.load;
    this.#target = parts.target ?? {};
    this.#closing = new Closing(undefined, `${detected.name} is closed; open the bus again`);
  }

  /** What speaks for this interface. */
  get evidence(): readonly Evidence[] {
    return this.#detected.evidence;
  }

  /** Decoded facts. */
  get details(): Readonly<Record<string, unknown>> {
    return this.#detected.details;
  }

  /** What can be done with it; nothing while its provider could not be loaded. */
  get capabilities(): Capabilities {
    return this.#capabilities;
  }

  /** @internal Whether it was closed. */
  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * Reads the value of a key as text; bytes that are not valid UTF-8 become U+FFFD (see {@link PvInterface.readBytes}).
   * @param key full native key
   * @returns undefined when there is no such key
   * @throws PvbusError `ERR_KEY_INVALID` for a key that the store cannot hold, `ERR_UNAVAILABLE`, `ERR_PERMISSION`,
   * `ERR_CORRUPT`, `ERR_TIMEOUT`, `ERR_ABORTED`
   */
  async read(key: string, options?: CallOptions): Promise<string | undefined> {
    const bytes = await this.readBytes(key, options);
    return bytes === undefined ? undefined : textOf(bytes);
  }

  /**
   * Reads the value of a key as the bytes that are stored.
   * @returns undefined when there is no such key; the array is the caller's own
   * @throws PvbusError as {@link PvInterface.read}
   */
  async readBytes(key: string, options?: CallOptions): Promise<Uint8Array | undefined> {
    return this.#run("read", key, options, (store, call) => store.read?.(key, call));
  }

  /**
   * Writes a value; resolves when other readers see it.
   * @param value text, or bytes where the store takes them (otherwise they must be valid UTF-8)
   * @throws PvbusError `ERR_READ_ONLY`, `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`, `ERR_VALUE_INVALID`,
   * `ERR_VALUE_TOO_LONG`, `ERR_NO_SPACE`, and those of {@link PvInterface.read}; then nothing was changed. After
   * `ERR_TIMEOUT` and `ERR_ABORTED` a change that had begun may still be completed.
   */
  async write(key: string, value: string | Uint8Array, options?: CallOptions): Promise<void> {
    await this.#run("write", key, options, (store, call) => {
      const bytes = valueBytes(value, store.capabilities);
      return store.write?.(key, bytes, call);
    });
  }

  /**
   * Removes a key.
   * @returns whether it was there
   * @throws PvbusError `ERR_READ_ONLY` and those of {@link PvInterface.read}
   */
  async delete(key: string, options?: CallOptions): Promise<boolean> {
    return (await this.#run("delete", key, options, (store, call) => store.delete?.(key, call))) ?? false;
  }

  /**
   * Waits until there is a value and resolves with it as text, without `timeoutMs` for ever. Not there yet are also a transport
   * that is missing, slow or lost; a store without watch is read every second.
   * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_PERMISSION`, `ERR_KEY_INVALID`; `ERR_NOT_SUPPORTED` where the value
   * cannot change while the machine runs
   */
  async wait(key: string, options?: CallOptions): Promise<string> {
    return textOf(await this.waitBytes(key, options));
  }

  /** Resolves with the same as {@link PvInterface.wait} as bytes. */
  async waitBytes(key: string, options: CallOptions = {}): Promise<Uint8Array> {
    const call = new Call(options, Number.POSITIVE_INFINITY);
    const prefixes = async ({ signal, remainingMs }: Call): Promise<FollowedPrefix[]> => {
      const store = await this.store({ signal, timeoutMs: remainingMs });
      if (store.isFixed?.(key) === true) return [];
      return [{ prefix: key, nameOf: (changed) => (changed === key ? key : undefined) }];
    };
    const { waitUntilThere } = await import("./following.js");
    try {
      return await waitUntilThere(
        [{ face: this, prefixes }],
        async ({ signal, remainingMs }) => {
          const limits = { signal, timeoutMs: remainingMs };
          // What cannot be read yet may be without its transport.
          if (!this.#capabilities.read) await this.store(limits);
          return this.readBytes(key, limits);
        },
        call,
        `a value of "${key}"`,
      );
    } catch (error) {
      throw await this.#failed(error, key);
    }
  }

  /**
   * Reads a value and erases it, for secrets that are to be read once.
   * @returns the value and what became of it; undefined when there is no such key
   * @throws PvbusError `ERR_READ_ONLY` with `requireErase` where the host would keep it, `ERR_CONFLICT` when it was changed
   * meanwhile, and those of {@link PvInterface.read} and {@link PvInterface.delete}; then it may have been delivered
   */
  async take(key: string, options: TakeOptions = {}): Promise<TakenValue | undefined> {
    const { erase, requireErase, deliver, ...callOptions } = options;
    const { takeValue } = await import("./taking.js");
    return this.#run("read", key, callOptions, (store, call) =>
      takeValue(store, key, { erase, requireErase, deliver }, call),
    );
  }

  /**
   * Writes a value where there is none, in one step: of several who try, one does.
   * @returns false, and nothing was written, when the key was there
   * @throws PvbusError `ERR_NOT_SUPPORTED` where the store has no such step, and those of {@link PvInterface.write}
   */
  async insert(key: string, value: string | Uint8Array, options?: CallOptions): Promise<boolean> {
    const inserted = await this.#run("write", key, options, (store, call) => {
      const bytes = valueBytes(value, store.capabilities);
      if (store.insert === undefined)
        throw pvbusError("ERR_NOT_SUPPORTED", `the ${this.type} store cannot insert; read, then write`);
      return store.insert(key, bytes, call);
    });
    return inserted ?? false;
  }

  /**
   * Lists the pairs below a prefix, page by page. `timeoutMs` is for the store's time until the next entry: it begins
   * again whenever the loop asks for one, and the time that the loop's body takes does not count.
   * @param prefix a pool or path with or without its final slash; empty: everything
   * @throws PvbusError as {@link PvInterface.read}, while iterating
   */
  async *list(prefix = "", options?: CallOptions): AsyncGenerator<StoreEntry, void, undefined> {
    try {
      const call = new Call(options);
      await this.#begin(call);
      const store = await this.#ready("list", call);
      checkText(prefix);
      const entries = store.list?.(prefix, call);
      if (entries === undefined) throw this.#missing("list");
      for await (const entry of entries) {
        yield withText(entry);
        call.renew();
        this.#closing.check();
        const turn = call.turn("the listing");
        if (turn !== undefined) await turn;
      }
    } catch (error) {
      throw await this.#failed(error, prefix);
    }
  }

  /**
   * Follows changes below a prefix. The loop ends without an error when the signal fires or `timeoutMs` (default:
   * none) has passed, and with `ERR_DISCONNECTED` when the interface is closed.
   * @throws PvbusError as {@link PvInterface.read}, while iterating
   */
  async *watch(prefix = "", options: WatchOptions = {}): AsyncGenerator<StoreChange, void, undefined> {
    let call: Call | undefined;
    try {
      const { ready, ...callOptions } = options;
      if (ready !== undefined && typeof ready !== "function") throw new TypeError("ready must be a function");
      call = new Call(callOptions, Number.POSITIVE_INFINITY);
      await this.#begin(call);
      // A watch may last for ever; a transport that does not answer is worth saying all the same.
      const opening = callOptions.timeoutMs === undefined ? new Call(callOptions) : call;
      const store = await this.#ready("watch", opening);
      checkText(prefix);
      const changes = store.watch?.(prefix, call, { ready: ready ?? (() => undefined) });
      if (changes === undefined) throw this.#missing("watch");
      for await (const entry of changes) {
        const { key, value, ...rest } = withText(entry);
        yield { key, value, ...rest };
        this.#closing.check();
        const turn = call.turn("a change");
        if (turn !== undefined) await turn;
      }
      if (!call.isOver) this.#closing.check();
    } catch (error) {
      const failure = await this.#failed(error, prefix);
      if (call?.isEnd(error) !== true) throw failure;
    }
  }

  /** Resolves with what the host tells about this machine; an empty object where it tells nothing. */
  async facts(options?: CallOptions): Promise<MachineFacts> {
    return this.#opened(options, async (store, call) => (await store.facts?.(call)) ?? {});
  }

  /** Tells the host by the store's own signals that this guest is up or has failed; none where it has no such signals. */
  async ready(state: ReadyState, options?: CallOptions): Promise<readonly ReadySignal[]> {
    try {
      const call = new Call(options);
      await this.#begin(call);
      const store = await this.#open(call);
      return (await store.ready?.(state, call)) ?? [];
    } catch (error) {
      throw await this.#failed(error);
    }
  }

  /**
   * Returns the provider's own store class, for what only this hypervisor has.
   * @example `const store = await bus.byType("Hyper-V")?.store<HypervStore>();`
   */
  async store<T extends ProviderStore = ProviderStore>(options?: CallOptions): Promise<T> {
    return this.#opened(options, async (store) => store as T);
  }

  /** Checks what the store needs on this machine; undefined where no provider can tell. */
  async diagnose(): Promise<readonly Diagnosis[] | undefined> {
    await fairTurn();
    let provider: Provider | undefined;
    try {
      provider = await this.#loaded(new Call());
    } catch (error) {
      if (!PvbusError.is(error)) throw error;
      return [{ what: "its provider can be loaded", works: false, why: error.message }];
    }
    return provider?.diagnose?.(this.#target);
  }

  /** Returns the interface as OpenBSD's kernel would serve it; undefined when that kernel has no key-value call for it. */
  async hostctlStore(options?: CallOptions): Promise<HostctlStore | undefined> {
    const provider = await this.#loaded(new Call(options));
    if (provider?.hostctlStore === undefined) return undefined;
    return provider.hostctlStore(await this.store(options));
  }

  /** Closes the store; every later call rejects with `ERR_DISCONNECTED`. May be called twice. */
  async close(): Promise<void> {
    const opening = this.#opening;
    this.#closing.close();
    this.#opening = undefined;
    opening?.abort(this.#closing.error());
    try {
      await fairTurn();
      await opening?.ended;
      await opening?.store?.close();
    } catch (error) {
      throw await this.#failed(error);
    }
  }

  /** The same as {@link PvInterface.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run<T>(
    verb: keyof Verbs,
    key: string,
    options: CallOptions | undefined,
    operation: (store: ProviderStore, call: Call) => Promise<T> | undefined,
  ): Promise<T | undefined> {
    try {
      const call = new Call(options);
      const turn = this.#begin(call);
      if (turn !== undefined) await turn;
      checkText(key);
      if (key === "") throw pvbusError("ERR_KEY_INVALID", "the key is empty; give a full native key");
      const store = this.#ready(verb, call);
      const ready = store instanceof Promise ? await store : store;
      const result = operation(ready, call);
      if (result === undefined) throw this.#missing(verb);
      return await result;
    } catch (error) {
      throw await this.#failed(error, key);
    }
  }

  /** Runs what needs the open store and no verb of it. */
  async #opened<T>(
    options: CallOptions | undefined,
    operation: (store: ProviderStore, call: Call) => Promise<T>,
  ): Promise<T> {
    try {
      const call = new Call(options);
      await this.#begin(call);
      return await operation(await this.#open(call), call);
    } catch (error) {
      throw await this.#failed(error);
    }
  }

  /** The gate of every call: whatever a loop calls, the event loop has its turn in time. */
  #begin(call: Call): Promise<void> | undefined {
    return call.turn("the start of the call");
  }

  /** Returns the open store when it has the verb; synchronously once it is open, so that a read costs no extra turn. */
  #ready(verb: keyof Verbs, call: Call): ProviderStore | Promise<ProviderStore> {
    this.#closing.check();
    if (this.#provider === undefined && this.#load !== undefined)
      return this.#loaded(call).then(() => this.#ready(verb, call));
    if (!this.capabilities[verb]) {
      const why =
        this.#provider === undefined
          ? "no provider serves it; bind one with openPvbus({ providers: […] })"
          : (this.#provider.explain?.(verb, this.#target) ??
            "this hypervisor has no such operation; see capabilities");
      throw pvbusError("ERR_NOT_SUPPORTED", `${this.type} cannot ${verb}: ${why}`);
    }
    return this.#opening?.store ?? this.#open(call);
  }

  /** A verb that the provider declares and its store lacks must not look like a key that is not there. */
  #missing(verb: keyof Verbs): PvbusError {
    return pvbusError(
      "ERR_NOT_SUPPORTED",
      `the ${this.type} provider declares ${verb} but its store has no such verb; report it to the provider's author`,
    );
  }

  /** Opens the store once for all callers; one caller's abort or deadline ends its own waiting alone. */
  #open(call: Call): Promise<ProviderStore> {
    this.#closing.check();
    const provider = this.#provider;
    if (provider === undefined && this.#load !== undefined)
      return this.#loaded(call).then(() => this.#open(call));
    if (provider === undefined) {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        `no provider serves ${this.type}; bind one with openPvbus({ providers: […] })`,
      );
    }
    call.check("the opening of the store");
    if (this.#opening === undefined || this.#opening.isOver) {
      const before = this.#opening?.ended;
      this.#opening = new Opening((opening) => this.#openStore(provider, opening, before));
    }
    return this.#opening.wait(call);
  }

  /** Returns the provider; loads it where that failed when the bus was opened. */
  async #loaded(call: Call): Promise<Provider | undefined> {
    if (this.#provider === undefined && this.#load !== undefined) {
      const provider = await this.#load(call);
      this.#capabilities = provider.capabilities(this.#target);
      this.#provider = provider;
    }
    return this.#provider;
  }

  /** Begins when the last opening has come to its end: the transport may have room for one alone. */
  async #openStore(
    provider: Provider,
    call: Call,
    before: Promise<void> | undefined,
  ): Promise<ProviderStore> {
    if (before !== undefined) await call.within(before, "the end of an opening that was given up");
    const store = await provider.open(this.#target, call, this.#closing.signal);
    // A transport may have come since the provider was asked.
    this.#capabilities = store.capabilities;
    return store;
  }

  /** Returns the error to be thrown. A call that fails at once passes the gate too: its caller may try for ever. */
  async #failed(error: unknown, key?: string): Promise<unknown> {
    await turns.loopIfDue();
    if (!PvbusError.is(error)) return error;
    error.interface ??= this.name;
    if (key !== undefined && key !== "") error.key ??= key;
    return error;
  }
}
