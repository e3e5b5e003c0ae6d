import { setMaxListeners } from "node:events";
import type { Call } from "../../src/bus/call.js";
import type { Capabilities, Verbs } from "../../src/bus/capabilities.js";
import { pvbusError } from "../../src/bus/errors.js";
import type {
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  WatchHooks,
} from "../../src/bus/store.js";
import type { Logger } from "../../src/host/host.js";
import {
  checkPair,
  FILE_LIMITS,
  HOST_LIMITS,
  nativeKey,
  POOLS,
  type PoolInfo,
  type PoolName,
  parseKey,
  parsePrefix,
  type WriteLimits,
} from "./keys.js";
import type { HypervOptions } from "./options.js";
import type { Pool } from "./pool.js";
import { isMissing } from "./pool-errors.js";
import { watchPools } from "./pool-watch.js";

/** What a store is made of. */
export interface HypervStoreParts {
  /** The pools' directory. */
  readonly directory: string;
  /** Creates the access to one pool. */
  readonly createPool: (info: PoolInfo) => Pool;
  /** Checked settings. */
  readonly options: HypervOptions;
  /** Receives messages. */
  readonly logger: Logger;
}

/** Tells which limits writes keep to under these settings. */
function limitsOf(options: HypervOptions): WriteLimits {
  return options.wideLimits === true ? FILE_LIMITS : HOST_LIMITS;
}

/** Tells whether a guest may write a pool under these settings. */
function isWritable(pool: PoolInfo, options: HypervOptions): boolean {
  const names = options.writablePools ?? [];
  return pool.guestWritable || names.some((name) => name.toLowerCase() === pool.name.toLowerCase());
}

/** Gives what pool files can do under these settings; limits count the key without its pool. */
export function hypervCapabilities(options: HypervOptions): Capabilities {
  const limits = limitsOf(options);
  const pools: Record<string, Verbs> = {};
  for (const pool of POOLS) {
    const writable = isWritable(pool, options);
    pools[pool.name] = { read: true, write: writable, delete: writable, list: true, watch: true };
  }
  return {
    read: true,
    write: true,
    delete: true,
    list: true,
    watch: true,
    binary: false,
    limits: {
      maxKeyUnits: limits.keyUnits,
      maxKeyBytes: FILE_LIMITS.keyUnits,
      maxValueUnits: limits.valueUnits,
      maxValueBytes: FILE_LIMITS.valueUnits,
    },
    pools,
  };
}

/** Hyper-V's pools as files, the store of Linux and FreeBSD guests. Native keys are `Pool/Key`. */
export class HypervStore implements ProviderStore {
  /** What can be done, per pool. */
  readonly capabilities: Capabilities;
  /** The pools' directory. */
  readonly directory: string;
  /** Where portable keys live. */
  readonly portable: PortableLayout = {
    hostKeys: (namespace, name) => [`External/${namespace}/${name}`, `Guest/Parameters/${namespace}/${name}`],
    guestKey: (namespace, name) => `Guest/${namespace}/${name}`,
    chunkBytes: HOST_LIMITS.valueUnits,
  };

  readonly #parts: HypervStoreParts;
  readonly #pools = new Map<PoolInfo["name"], Pool>();
  readonly #closing = new AbortController();

  /** @internal Opened by the provider. */
  constructor(parts: HypervStoreParts) {
    this.#parts = parts;
    this.directory = parts.directory;
    this.capabilities = hypervCapabilities(parts.options);
    setMaxListeners(0, this.#closing.signal);
  }

  /** Reads the bytes of a record up to its first NUL; of duplicates the last, which is what the host sees. */
  read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const { pool, key: name } = parseKey(key);
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
    const { pool, key: name } = parseKey(key);
    this.#checkWritable(pool);
    return this.#pool(pool).delete(name, call);
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
        directory: this.directory,
        pools: pools.map((info) => this.#pool(info)),
        keyPrefix,
        logger: this.#parts.logger,
        ready: hooks.ready,
        closing: this.#closing.signal,
      },
      call,
    );
    for await (const { pool, key, value } of changes) yield { key: nativeKey(pool.info, key), value };
  }

  /** Gives what the host put into Guest/Parameters; nothing where the host said nothing. */
  async facts(call: Call): Promise<MachineFacts> {
    const all: Record<string, string> = Object.create(null);
    try {
      for await (const { key, value } of this.#pool(
        parsePrefix("Guest/Parameters").pools[0] as PoolInfo,
      ).list("", call)) {
        all[key] = Buffer.from(value).toString("utf8");
      }
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
      try {
        await this.#pool(info).scrub(call);
      } catch (error) {
        if (pool !== undefined || !isMissing(error)) throw error;
      }
    }
  }

  /** Ends watches and closes the files. */
  async close(): Promise<void> {
    this.#closing.abort();
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map((pool) => pool.close()));
  }

  #pool(info: PoolInfo): Pool {
    if (this.#closing.signal.aborted)
      throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
    let pool = this.#pools.get(info.name);
    if (pool === undefined) {
      pool = this.#parts.createPool(info);
      this.#pools.set(info.name, pool);
    }
    return pool;
  }

  #checkWrite(key: string, value: Uint8Array): { pool: PoolInfo; name: string } {
    const { pool, key: name } = parseKey(key);
    this.#checkWritable(pool);
    checkPair(name, value, limitsOf(this.#parts.options));
    return { pool, name };
  }

  #checkWritable(pool: PoolInfo): void {
    if (isWritable(pool, this.#parts.options)) return;
    throw pvbusError(
      "ERR_READ_ONLY",
      `pool ${pool.name} is written by ${pool.name === "Auto" ? "the KVP daemon" : "the host"} only; write to Guest/ instead`,
    );
  }
}
