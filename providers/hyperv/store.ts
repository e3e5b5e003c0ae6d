import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import { bySnapshots, watchLoop } from "../../src/base/flow/watch-loop.js";
import type { Host } from "../../src/base/host/host.js";
import { namedBelow } from "../../src/base/named-below.js";
import { putEntry } from "../../src/base/own.js";
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
import {
  nativeKey,
  POOLS,
  type PoolInfo,
  type PoolKey,
  type PoolName,
  parseKey,
  parsePrefix,
} from "./protocol/keys.js";
import { HOST_LIMITS } from "./protocol/limits.js";
import { isMissing, type Pool, type PoolPair, type PoolTransport, unlessMissing } from "./transport/pool.js";

/** Where the host gives, the strongest first. */
const HOST_POOLS = ["External", "Guest/Parameters"] as const;
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
  /** Writes a report of its provisioning, as cloud agents do; on Linux, where those that own its place are known. */
  readonly ready?: (state: ReadyState, call: Call) => Promise<readonly ReadySignal[]>;
  readonly #transport: PoolTransport;
  readonly #pools = new Map<PoolInfo["name"], Pool>();
  readonly #closing: Closing;

  /** @internal Opened by the provider. */
  constructor(transport: PoolTransport, capabilities: Capabilities, closing?: AbortSignal, host?: Host) {
    this.#closing = new Closing(closing);
    this.#transport = transport;
    this.location = transport.location;
    this.capabilities = capabilities;
    this.portable = portableLayout(transport, capabilities);
    if (host?.platform === "linux") this.ready = (state, call) => this.#reportProvisioning(host, state, call);
  }

  /** Reads the bytes of a record up to its first NUL; of duplicates the last, which is what the host sees. */
  read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const { pool, key: name } = parseKey(key, this.#transport.longestKeyBytes);
    return this.#pool(pool).read(name, call);
  }

  /**
   * Writes one record in place, zero-filled; other records of the same key are removed.
   * @throws PvbusError `ERR_READ_ONLY` for a pool that the guest may not write, `ERR_KEY_TOO_LONG`,
   * `ERR_VALUE_TOO_LONG`, `ERR_VALUE_INVALID` before anything is touched
   */
  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    const { pool, key: name } = this.#checked(key, "write", value);
    await this.#pool(pool).write(name, value, call);
  }

  /**
   * Writes one record if the key is new, as one step: of two programs that try, one succeeds.
   * @returns whether it was new
   * @throws PvbusError as {@link HypervStore.write}
   */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    const { pool, key: name } = this.#checked(key, "write", value);
    return this.#pool(pool).insert(name, value, call);
  }

  /** Removes every record of a key. @throws PvbusError `ERR_READ_ONLY` for a pool that the guest may not write */
  async delete(key: string, call: Call): Promise<boolean> {
    const { pool, key: name } = this.#checked(key, "delete");
    return this.#pool(pool).delete(name, call);
  }

  /**
   * Erases a record that this guest may remove. What the host gave stays: it would send it again at the next start. Where a pool of
   * the host's was made writable (`writablePools`) only this guest's copy goes.
   * @throws PvbusError `ERR_CONFLICT` when it is not the expected value
   */
  async erase(key: string, call: Call, expected?: Uint8Array, everywhere = false): Promise<Erased> {
    const { pool, key: name } = parseKey(key, this.#transport.longestKeyBytes);
    const erased = pool.guestWritable ? "host" : "local";
    if (this.capabilities.pools?.[pool.name]?.delete !== true || (everywhere && erased === "local"))
      return "no";
    const value = await this.#pool(pool).read(name, call);
    if (value === undefined) return erased;
    if (expected !== undefined && Buffer.compare(value, expected) !== 0)
      throw pvbusError("ERR_CONFLICT", `the record has another value by now; read it again`);
    await this.#pool(pool).delete(name, call);
    return (await this.#pool(pool).read(name, call)) === undefined ? erased : "no";
  }

  /** Lists the records of one pool, or of all pools that exist for the empty prefix, in file order. */
  async *list(prefix: string, call: Call): AsyncGenerator<RawEntry, void, undefined> {
    const { pools, keyPrefix } = parsePrefix(prefix);
    const missing: unknown[] = [];
    for (const info of pools) {
      try {
        for await (const { key, value } of this.#pool(info).list(keyPrefix, call)) {
          yield { key: nativeKey(info, key), value };
        }
      } catch (error) {
        if (!isMissing(error)) throw error;
        missing.push(error);
      }
    }
    if (missing.length === pools.length) throw missing[0];
  }

  /**
   * Follows one pool, or all for the empty prefix, by comparing consistent states whenever the operating system reports a change. A
   * pool that is missing for a while (the daemon restarts) counts as unchanged.
   */
  async *watch(prefix: string, call: Call, hooks: WatchHooks): AsyncGenerator<RawEntry, void, undefined> {
    const { pools: infos, keyPrefix } = parsePrefix(prefix);
    const pools = infos.map((info) => this.#pool(info));
    const states = pools.map((pool) => ({
      snapshot: (call: Call) => unlessMissing(() => pool.snapshot(keyPrefix, call)),
      change: (_name: string, after: PoolPair | undefined, before: PoolPair | undefined): RawEntry => ({
        key: nativeKey(pool.info, ((after ?? before) as PoolPair).key),
        value: after?.value,
      }),
      isSame: (before: PoolPair, after: PoolPair) => Buffer.compare(before.value, after.value) === 0,
    }));
    const listen = (changed: () => void): (() => void) => this.#transport.notify(pools, changed);
    const settings = { ready: hooks.ready, closing: this.#closing.signal };
    yield* watchLoop({ ...bySnapshots(...states), listen }, settings, call);
  }

  /** Returns what the host put into Guest/Parameters; nothing where the host said nothing. */
  async facts(call: Call): Promise<MachineFacts> {
    const all: Record<string, string> = {};
    try {
      for await (const { key, value } of this.#pool(PARAMETERS).list("", call))
        putEntry(all, key, Buffer.from(value).toString("utf8"));
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    const { VirtualMachineName, VirtualMachineId, HostName, ...rest } = all;
    const hostName = HostName ?? rest["PhysicalHostNameFullyQualified"] ?? rest["PhysicalHostName"];
    return {
      ...(VirtualMachineName === undefined ? {} : { vmName: VirtualMachineName }),
      ...(VirtualMachineId === undefined ? {} : { vmId: VirtualMachineId }),
      ...(hostName === undefined ? {} : { hostName }),
      ...(Object.keys(rest).length === 0 ? {} : { other: rest }),
    };
  }

  /**
   * Zeroes what deleted and overwritten records left behind in a pool; the records themselves do not change, so
   * pools that the guest may not write can be scrubbed too.
   * @param pool name of the pool; undefined: all that exist
   */
  async scrub(pool: PoolName | undefined, call: Call): Promise<void> {
    for (const info of parsePrefix(pool ?? "").pools) {
      const scrub = async (): Promise<void> => this.#pool(info).scrub?.(call);
      await (pool === undefined ? unlessMissing(scrub) : scrub());
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

  async #reportProvisioning(host: Host, state: ReadyState, call: Call): Promise<readonly ReadySignal[]> {
    const { reportProvisioning } = await import("./provisioning.js");
    const write = (key: string, value: string): Promise<void> =>
      this.write(`Guest/${key}`, Buffer.from(value), call);
    return [await reportProvisioning(host, state, write)];
  }

  #pool(info: PoolInfo): Pool {
    this.#closing.check();
    const pool = this.#pools.get(info.name) ?? this.#transport.pool(info);
    this.#pools.set(info.name, pool);
    return pool;
  }

  /** Returns the parts of a key that may be changed so, the value checked. */
  #checked(key: string, verb: "write" | "delete", value?: Uint8Array): PoolKey {
    const parts = parseKey(key, this.#transport.longestKeyBytes);
    const { name } = parts.pool;
    const can = this.capabilities.pools?.[name];
    if (can?.[verb]) {
      if (value !== undefined) this.#transport.check(parts.key, value);
      return parts;
    }
    // Where new values are taken but none is given up, the pool is not read-only.
    if (can?.write) {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        `nothing can be removed from pool ${name} here: the kernel keeps it until the next boot`,
      );
    }
    throw pvbusError(
      "ERR_READ_ONLY",
      `pool ${name} is written by ${name === "Auto" ? "the KVP daemon" : "the host"} only; write to Guest/ instead`,
    );
  }
}

/** Returns where portable keys live: what the host gave in External or Guest/Parameters, what the guest publishes in Guest. */
function portableLayout({ separator }: PoolTransport, { limits }: Capabilities): PortableLayout {
  const below = (pool: string, namespace: string) => namedBelow(`${pool}/${namespace}${separator}`);
  return {
    hostKeys: (namespace, name) => HOST_POOLS.map((pool) => `${pool}/${namespace}${separator}${name}`),
    guestKey: (namespace, name) => `Guest/${namespace}${separator}${name}`,
    chunkBytes: Math.min(HOST_LIMITS.maxValueUnits, limits?.maxValueUnits ?? Infinity),
    places: (namespace) => ({
      host: HOST_POOLS.map((pool) => below(pool, namespace)),
      guest: below("Guest", namespace),
    }),
  };
}
