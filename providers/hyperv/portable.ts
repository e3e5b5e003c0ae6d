import type { Capabilities } from "../../src/contract/capabilities.js";
import type { PortableLayout } from "../../src/contract/store.js";
import { HOST_LIMITS } from "./protocol/limits.js";
import type { PoolTransport } from "./transport/pool.js";

/** Returns where portable keys live: what the host gave in External or Guest/Parameters, what the guest publishes in Guest. */
export function portableLayout(
  { separator }: Pick<PoolTransport, "separator">,
  { limits }: Capabilities,
): PortableLayout {
  return {
    hostKeys: (namespace, name) =>
      ["External", "Guest/Parameters"].map((pool) => `${pool}/${namespace}${separator}${name}`),
    guestKey: (namespace, name) => `Guest/${namespace}${separator}${name}`,
    chunkBytes: Math.min(HOST_LIMITS.valueUnits, limits?.maxValueUnits ?? Infinity),
  };
}
