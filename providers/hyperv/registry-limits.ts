import type { Capabilities } from "../../src/contract/capabilities.js";
import type { WriteLimits } from "./keys.js";
import type { HypervOptions } from "./options.js";
import { isWritable, poolCapabilities } from "./pool-files.js";

/** Bytes of the longest UTF-8 form of a UTF-16 unit. */
const UTF8_PER_UNIT = 3;
const KEY_UNITS = 255;
const VALUE_UNITS = 1023;

/** What Windows' service exchanges (Microsoft, "Using the Registry to exchange data": 255 and 1023 characters beside the NUL). */
export const REGISTRY_LIMITS: WriteLimits = {
  keyUnits: KEY_UNITS,
  keyBytes: KEY_UNITS * UTF8_PER_UNIT,
  valueUnits: VALUE_UNITS,
  valueBytes: VALUE_UNITS * UTF8_PER_UNIT,
};

/** Returns what the registry's pools can do under these settings. */
export function registryCapabilities(options: HypervOptions): Capabilities {
  return poolCapabilities(REGISTRY_LIMITS, (pool) => {
    const writable = isWritable(pool, options);
    return { write: writable, delete: writable };
  });
}
