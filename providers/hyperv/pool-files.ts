import { resolve } from "node:path";
import { PvbusError } from "../../src/base/errors.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities, Verbs } from "../../src/contract/capabilities.js";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { HV_KVP_EXCHANGE_MAX_KEY_SIZE } from "./codec.js";
import { checkPair, FILE_LIMITS, HOST_LIMITS, POOLS, type PoolInfo, type WriteLimits } from "./keys.js";
import type { HypervOptions } from "./options.js";
import type { Locker } from "./pool-file.js";
import { notifyFiles } from "./pool-notify.js";
import { openPool } from "./pool-opening.js";
import { poolDirectory, poolFileName } from "./pool-places.js";
import type { PoolSystem } from "./store-pool.js";

/** Reports whether a guest may write a pool under these settings. */
export function isWritable(pool: PoolInfo, options: HypervOptions): boolean {
  const names = options.writablePools ?? [];
  return pool.guestWritable || names.some((name) => name.toLowerCase() === pool.name.toLowerCase());
}

/** Returns what pools can do whose verbs depend on the pool alone. */
export function poolCapabilities(
  limits: WriteLimits,
  verbs: (pool: PoolInfo) => Pick<Verbs, "write" | "delete">,
): Capabilities {
  const pools = POOLS.map(
    (pool) => [pool.name, { read: true, ...verbs(pool), list: true, watch: true }] as const,
  );
  return {
    read: true,
    write: pools.some(([, { write }]) => write),
    delete: pools.some(([, can]) => can.delete),
    list: true,
    watch: true,
    binary: false,
    limits: {
      maxKeyUnits: limits.keyUnits,
      maxKeyBytes: limits.keyBytes,
      maxValueUnits: limits.valueUnits,
      maxValueBytes: limits.valueBytes,
    },
    pools: Object.fromEntries(pools),
  };
}

function limitsOf(options: HypervOptions): WriteLimits {
  return options.wideLimits === true ? FILE_LIMITS : HOST_LIMITS;
}

/** Returns what pool files can do under these settings; limits count the key without its pool. */
export function fileCapabilities(options: HypervOptions): Capabilities {
  return poolCapabilities(limitsOf(options), (pool) => {
    const writable = isWritable(pool, options);
    return { write: writable, delete: writable };
  });
}

/** The pools as files: Linux, FreeBSD, and captured trees everywhere. The files are opened on first use. */
export function filePools(host: Host, options: HypervOptions): PoolSystem {
  const directory = poolDirectory(host, options.directory);
  return {
    place: resolve(host.path(directory)),
    capabilities: fileCapabilities(options),
    // A field may lack its NUL.
    longestKeyBytes: HV_KVP_EXCHANGE_MAX_KEY_SIZE,
    separator: "/",
    pool: (info) =>
      openPool(host, {
        info,
        directory,
        makePrivate: options.privatePools === true,
        create: options.createPools === true,
        durable: options.durable === true,
        scrub: options.scrubTails === true,
        lock: lockFamilies,
        canLock,
      }),
    check: (key, value) => checkPair(key, value, limitsOf(options)),
    notify: (pools, ring) =>
      notifyFiles({
        host,
        directory,
        files: pools.map((pool) => poolFileName(pool.info.number)),
        ring,
      }),
  };
}

const lockFamilies: Locker = async (fd, { mode, call }) => {
  const { lockFile } = await import("../../src/native/posix/file-lock.js");
  return lockFile(fd, { mode, call });
};

function canLock(): boolean {
  try {
    loadKoffi();
    return true;
  } catch (error) {
    if (PvbusError.is(error)) return false;
    throw error;
  }
}
