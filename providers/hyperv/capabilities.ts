import type { Capabilities, Verbs } from "../../src/contract/capabilities.js";
import type { CompleteOptions } from "./options.js";
import { POOLS, type PoolInfo } from "./protocol/keys.js";
import {
  FILE_LIMITS,
  HOST_LIMITS,
  OPENBSD_LIMITS,
  REGISTRY_LIMITS,
  type WriteLimits,
} from "./protocol/limits.js";

/** Returns the sizes that pool files keep to under these settings. */
export function fileLimits({ wideLimits }: CompleteOptions): WriteLimits {
  return wideLimits ? FILE_LIMITS : HOST_LIMITS;
}

/** Returns what pool files can do under these settings; limits count the key without its pool. */
export function fileCapabilities(options: CompleteOptions): Capabilities {
  return capabilitiesOf(fileLimits(options), (pool) => guestVerbs(pool, options));
}

/** Returns what the registry's pools can do under these settings. */
export function registryCapabilities(options: CompleteOptions): Capabilities {
  return capabilitiesOf(REGISTRY_LIMITS, (pool) => guestVerbs(pool, options));
}

/** Returns what OpenBSD's pools can do: Guest takes new names, Auto new values, nothing is removed. */
export function openbsdCapabilities(): Capabilities {
  return capabilitiesOf(OPENBSD_LIMITS, ({ name }) => ({
    write: name === "Guest" || name === "Auto",
    delete: false,
  }));
}

function guestVerbs(
  pool: PoolInfo,
  { writablePools = [] }: CompleteOptions,
): Pick<Verbs, "write" | "delete"> {
  const named = writablePools.some((name) => name.toLowerCase() === pool.name.toLowerCase());
  const writable = pool.guestWritable || named;
  return { write: writable, delete: writable };
}

function capabilitiesOf(
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
