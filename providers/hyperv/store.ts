import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type {
  Erased,
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  WatchHooks,
} from "../../src/contract/store.js";
import { machineFacts } from "./facts.js";
import { portableLayout } from "./portable.js";
import {
  nativeKey,
  POOLS,
  type PoolInfo,
  type PoolKey,
  type PoolName,
  parseKey,
  parsePrefix,
} from "./protocol/keys.js";
import { isMissing, type Pool, type PoolTransport } from "./transport/pool.js";
import { watchPools } from "./watch.js";

const PARAMETERS = POOLS.find(({ name }) => name === "Guest/Parameters") as PoolInfo;

/**
 * Hyper-V's pools, whatever the operating system keeps them in: files (Linux, FreeBSD), the registry (Windows), the
 * kernel (OpenBSD). Native keys are `Pool/Key`. `capabilities` and the errors tell what differs.
 */
export class HypervStore implements ProviderStore {
  /** What can be done, per pool. */
  readonly capabilities: Capabilities;
  /** Where the pools are: a directory, a registry key or a device. */
  readonly location: string;
  /** Where portable keys live. */
  readonly portable: PortableLayout;
  readonly #transport: PoolTransport;
  readonly #pools = new Map<PoolInfo["name"], Pool>();
  readonly #closing: Closing;

  /** @internal Opened by the provider. */
  constructor(transport: PoolTransport, capabilities: Capabilities, closing?: AbortSignal) {
    this.#closing = new Closing(closing);
    this.#transport = transport;
    this.location = transport.location;
    this.capabilities = capabilities;
    this.portable = portableLayout(transport, capabilities);
  }

  /** Reads the bytes of a record up to its first NUL; of duplicates the last, which is what the host sees. */
  read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const { pool, key: name } = this.#parse(key);
    return this.#pool(pool).read(name, call);
  }

  /**
   * Writes one record in place, zero-filled; other records of the same key are removed.
   * @throws PvbusError `ERR_READ_ONLY` for a pool that the guest may not write, `ERR_KEY_TOO_LONG`,
   * `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID` before anything is touched
   */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    const { pool, name } = this.#checkWrite(key, value);
    await this.#pool(pool).write(name, value, call);
  }

  /**
   * Writes one record if the key is new, as one step: of two programs that try, one succeeds.
   * @returns whether it was new
   * @throws PvbusError as {@link HypervStore.write}
   */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    const { pool, name } = this.#checkWrite(key, value);
    return this.#pool(pool).insert(name, value, call);
  }

  /** Removes every record of a key. @throws PvbusError `ERR_READ_ONLY` for a pool that the guest may not write */
  async delete(key: string, call: Call): Promise<boolean> {
    const { pool, key: name } = this.#parse(key);
    this.#checkVerb(pool, "delete");
    return this.#pool(pool).delete(name, call);
  }

  /**
   * Erases a record that this guest may remove. What the host gave stays: it would send it again at the next start. Where a pool of
   * the host's was made writable (`writablePools`) only this guest's copy goes.
   * @throws PvbusError `ERR_CONFLICT` when it is not the expected value
   */
  async erase(key: string, call: Call, expected?: Uint8Array): Promise<Erased> {
    const { pool, key: name } = this.#parse(key);
    if (this.capabilities.pools?.[pool.name]?.delete !== true) return "no";
    const value = await this.#pool(pool).read(name, call);
    const erased = pool.guestWritable ? "host" : "local";
    if (value === undefined) return erased;
    if (expected !== undefined && Buffer.compare(value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", `the record has another value by now; read it again`);
    await this.#pool(pool).delete(name, call);
    return (await this.#pool(pool).read(name, call)) === undefined ? erased : "no";
  }

  /** Lists the records of one pool, or of all pools that exist for the empty prefix, in file order. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const { pools, keyPrefix } = parsePrefix(prefix);
    let missing: unknown;
    let found = 0;
    for (const info of pools) {
      try {
        for await (const { key, value } of this.#pool(info).list(keyPrefix, call)) {
          yield { key: nativeKey(info, key), value };
        }
        found++;
      } catch (error) {
        if (!isMissing(error)) throw error;
        missing ??= error;
      }
    }
    if (found === 0 && missing !== undefined) throw missing;
  }

  /** Follows one pool, or all for the empty prefix, by the file system's notifications. */
  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    const { pools, keyPrefix } = parsePrefix(prefix);
    const changes = watchPools(
      {
        transport: this.#transport,
        pools: pools.map((info) => this.#pool(info)),
        keyPrefix,
        ready: hooks.ready,
        closing: this.#closing.signal,
      },
      call,
    );
    for await (const { pool, key, value } of changes) yield { key: nativeKey(pool.info, key), value };
  }

  /** Returns what the host put into Guest/Parameters; nothing where the host said nothing. */
  facts(call: Call): Promise<MachineFacts> {
    return machineFacts(this.#pool(PARAMETERS), call);
  }

  /**
   * Zeroes what deleted and overwritten records left behind in a pool; the records themselves do not change, so
   * pools that the guest may not write can be scrubbed too.
   * @param pool name of the pool; undefined: all that exist
   */
  async scrub(pool: PoolName | undefined, call: Call): Promise<void> {
    for (const info of parsePrefix(pool ?? "").pools) {
      try {
        await this.#pool(info).scrub?.(call);
      } catch (error) {
        if (pool !== undefined || !isMissing(error)) throw error;
      }
    }
  }

  /** Ends watches and closes the files. */
  async close(): Promise<void> {
    this.#closing.close();
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.close()));
    this.#transport.close?.();
  }

  #parse(key: string): PoolKey {
    return parseKey(key, this.#transport.longestKeyBytes);
  }

  #pool(info: PoolInfo): Pool {
    this.#closing.check();
    let pool = this.#pools.get(info.name);
    if (pool === undefined) {
      pool = this.#transport.pool(info);
      this.#pools.set(info.name, pool);
    }
    return pool;
  }

  #checkWrite(key: string, value: Uint8Array): { pool: PoolInfo; name: string } {
    const { pool, key: name } = this.#parse(key);
    this.#checkVerb(pool, "write");
    this.#transport.check(name, value);
    return { pool, name };
  }

  #checkVerb(pool: PoolInfo, verb: "write" | "delete"): void {
    const can = this.capabilities.pools?.[pool.name];
    if (can?.[verb]) return;
    // Where new values are taken but none is given up, the pool is not read-only.
    if (can?.write) {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        `nothing can be removed from pool ${pool.name} here: the kernel keeps it until the next boot`,
      );
    }
    throw pvbusError(
      "ERR_READ_ONLY",
      `pool ${pool.name} is written by ${pool.name === "Auto" ? "the KVP daemon" : "the host"} only; write to Guest/ instead`,
    );
  }
}
