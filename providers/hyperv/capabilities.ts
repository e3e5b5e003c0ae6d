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

/** What keeps the pools of a machine. */
export type Keeper = "files" | "registry" | "openbsd-device";

/** Returns the sizes that pool files keep to under these settings. */
export function fileLimits({ wideLimits }: CompleteOptions): WriteLimits {
  return wideLimits ? FILE_LIMITS : HOST_LIMITS;
}

/** Returns what the pools can do under these settings, by what keeps them; limits count the key without its pool. */
export function capabilitiesOf(keeper: Keeper, options: CompleteOptions): Capabilities {
  const named = options.writablePools?.map((name) => name.toLowerCase()) ?? [];
  const isOpenbsd = keeper === "openbsd-device";
  const verbsOf = ({ name, guestWritable }: PoolInfo): Verbs => {
    // OpenBSD's Guest takes new names, Auto new values, and nothing is removed.
    const write = isOpenbsd
      ? name === "Guest" || name === "Auto"
      : guestWritable || named.includes(name.toLowerCase());
    return { read: true, write, delete: write && !isOpenbsd, list: true, watch: true };
  };
  return {
    read: true,
    write: true,
    delete: !isOpenbsd,
    list: true,
    watch: true,
    binary: false,
    limits: { files: fileLimits(options), registry: REGISTRY_LIMITS, "openbsd-device": OPENBSD_LIMITS }[
      keeper
    ],
    pools: Object.fromEntries(POOLS.map((pool) => [pool.name, verbsOf(pool)])),
  };
}
