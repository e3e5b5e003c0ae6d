import { pvbusError } from "../base/errors.js";
import type { Call } from "../base/flow/call.js";
import { Closing } from "../base/flow/closing.js";
import { byEvents, watchLoop } from "../base/flow/watch-loop.js";
import { namedBelow } from "../base/named-below.js";
import type { Capabilities } from "../contract/capabilities.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  TakenValue,
  WatchHooks,
} from "../contract/store.js";

const GUEST = "guest/";
const HOST = "host/";

/** The pairs that all stores of one memory provider share, and who follows them. */
export class MemoryRecords {
  readonly #values = new Map<string, Uint8Array>();
  readonly #followers = new Set<(change: RawEntry) => void>();

  /** Returns a copy of the value; undefined when there is no such key. */
  get(key: string): Uint8Array | undefined {
    return this.#values.get(key)?.slice();
  }

  /** Keeps a copy of the value, or removes the key; tells the followers. */
  set(key: string, value: Uint8Array | undefined): void {
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value.slice());
    for (const follower of this.#followers) follower({ key, value: value?.slice() });
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  keys(): readonly string[] {
    return [...this.#values.keys()];
  }

  /** Calls the follower on each later change. @returns what ends that */
  follow(follower: (change: RawEntry) => void): () => void {
    this.#followers.add(follower);
    return () => void this.#followers.delete(follower);
  }
}

/** An open session of a memory provider. */
export class MemoryStore implements ProviderStore {
  readonly capabilities: Capabilities;
  readonly portable: PortableLayout;
  readonly #records: MemoryRecords;
  readonly #closing: Closing;
  readonly #erasable: boolean;

  /** @internal Use `MemoryProvider.open`. */
  constructor(
    records: MemoryRecords,
    capabilities: Capabilities,
    {
      closing,
      erasable = false,
    }: { readonly closing?: AbortSignal | undefined; readonly erasable?: boolean | undefined } = {},
  ) {
    this.#erasable = erasable;
    this.#closing = new Closing(closing, "the memory store is closed; open another one");
    this.#records = records;
    this.capabilities = capabilities;
    this.portable = {
      hostKeys: (namespace, name) => [`${HOST}${namespace}/${name}`],
      guestKey: (namespace, name) => `${GUEST}${namespace}/${name}`,
      chunkBytes: capabilities.limits?.maxValueBytes ?? 1024,
      places: (namespace) => ({
        host: [namedBelow(`${HOST}${namespace}/`)],
        guest: namedBelow(`${GUEST}${namespace}/`),
      }),
    };
  }

  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    this.#check(call);
    this.#checkKey(key);
    return this.#records.get(key);
  }

  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    this.#checkWrite(key, value, call);
    this.#records.set(key, value);
  }

  async delete(key: string, call: Call): Promise<boolean> {
    this.#check(call);
    this.#checkWritable(key);
    const there = this.#records.has(key);
    if (there) this.#records.set(key, undefined);
    return there;
  }

  /** Reads and erases as one step: of several takers one has the value. */
  async take(key: string, call: Call): Promise<TakenValue | undefined> {
    this.#check(call);
    this.#checkKey(key);
    const value = this.#records.get(key);
    return value === undefined ? undefined : { value, erased: this.#erase(key) };
  }

  /** Erases what the guest wrote, and with the setting `erasable` what the host gave. */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    this.#check(call);
    this.#checkKey(key);
    const value = this.#records.get(key);
    if (value !== undefined && expected !== undefined && Buffer.compare(value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", `"${shown(key)}" has another value by now; read it again`);
    return this.#erase(key);
  }

  /** Writes where there is no such key, as one step. */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    this.#checkWrite(key, value, call);
    const isNew = !this.#records.has(key);
    if (isNew) this.#records.set(key, value);
    return isNew;
  }

  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    this.#check(call);
    for (const key of this.#records.keys()) {
      this.#check(call);
      const value = isBelow(key, prefix) ? this.#records.get(key) : undefined;
      if (value !== undefined) yield { key, value };
    }
  }

  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    if (call.isOver) return;
    this.#closing.check();
    const changes = byEvents<RawEntry>((push) =>
      this.#records.follow((change) => {
        if (isBelow(change.key, prefix)) push(change);
      }),
    );
    yield* watchLoop(changes, { ready: hooks.ready, closing: this.#closing.signal }, call);
  }

  async facts(call: Call): Promise<MachineFacts> {
    this.#check(call);
    return { vmName: "memory", other: { pairs: String(this.#records.keys().length) } };
  }

  async close(): Promise<void> {
    this.#closing.close();
  }

  #erase(key: string): Erased {
    if (key.startsWith(HOST) && !this.#erasable) return "no";
    if (this.#records.has(key)) this.#records.set(key, undefined);
    return "host";
  }

  #check(call: Call): void {
    this.#closing.check();
    call.check("the memory store");
  }

  #checkKey(key: string): void {
    if (!isBelow(key, GUEST) && !isBelow(key, HOST)) {
      throw pvbusError("ERR_KEY_INVALID", `no such pool in "${shown(key)}"; keys begin with guest/ or host/`);
    }
    this.#checkSize("ERR_KEY_TOO_LONG", "key", Buffer.byteLength(key), this.capabilities.limits?.maxKeyBytes);
  }

  #checkWrite(key: string, value: Uint8Array, call: Call): void {
    this.#check(call);
    this.#checkWritable(key);
    this.#checkSize("ERR_VALUE_TOO_LONG", "value", value.length, this.capabilities.limits?.maxValueBytes);
  }

  #checkWritable(key: string): void {
    this.#checkKey(key);
    if (key.startsWith(HOST)) {
      throw pvbusError("ERR_READ_ONLY", `"${shown(key)}" is the host's; write below guest/`);
    }
  }

  #checkSize(code: "ERR_KEY_TOO_LONG" | "ERR_VALUE_TOO_LONG", what: string, size: number, most = Infinity) {
    if (size > most) {
      throw pvbusError(code, `the ${what} has ${size} bytes, the store takes ${most}; shorten it`);
    }
  }
}

/** Reports whether a key is the prefix itself or lies below it; the prefix's last slash may be left out. */
function isBelow(key: string, prefix: string): boolean {
  if (prefix === "") return true;
  return prefix.endsWith("/")
    ? key.startsWith(prefix) && key !== prefix
    : key === prefix || key.startsWith(`${prefix}/`);
}

function shown(key: string): string {
  return key.length > 80 ? `${key.slice(0, 80)}…` : key;
}
