import { namedBelow } from "../../src/base/named-below.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { HOST_LIMITS } from "./protocol/limits.js";
import type { PoolTransport } from "./transport/pool.js";

/** Where the host gives, the strongest first. */
const HOST_POOLS = ["External", "Guest/Parameters"] as const;

/** Returns where portable keys live: what the host gave in External or Guest/Parameters, what the guest publishes in Guest. */
export function portableLayout(
  { separator }: Pick<PoolTransport, "separator">,
  { limits }: Capabilities,
): PortableLayout {
  const below = (pool: string, namespace: string) => namedBelow(`${pool}/${namespace}${separator}`);
  return {
    hostKeys: (namespace, name) => HOST_POOLS.map((pool) => `${pool}/${namespace}${separator}${name}`),
    guestKey: (namespace, name) => `Guest/${namespace}${separator}${name}`,
    chunkBytes: Math.min(HOST_LIMITS.valueUnits, limits?.maxValueUnits ?? Infinity),
    places: (namespace) => ({
      host: HOST_POOLS.map((pool) => below(pool, namespace)),
      guest: below("Guest", namespace),
    }),
  };
}
