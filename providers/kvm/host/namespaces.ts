import { pvbusError } from "../../../src/base/errors.js";
import { HOST_NAMESPACE } from "../../../src/mdata/server/requests.js";

/** Which keys a guest may change; all of them may be read. */
export interface Namespaces {
  /** Beginnings of keys that only the host changes. */
  readonly readOnly: readonly string[];
  /** Beginnings of keys that the guest may change; undefined where every other key is. */
  readonly writable?: readonly string[] | undefined;
}

/** What a guest may change where nothing else is said: all but the host's own facts. */
export const DEFAULT_NAMESPACES: Namespaces = { readOnly: [HOST_NAMESPACE] };

/**
 * Checks that the guest may change a key. The host's own namespace stays closed whatever the settings say.
 * @throws PvbusError `ERR_READ_ONLY`, its message in the words of the reference server, which clients look for
 */
export function checkWritable(key: string, { readOnly, writable }: Namespaces): void {
  const closed = [HOST_NAMESPACE, ...readOnly].find((prefix) => key.startsWith(prefix));
  if (closed !== undefined) throw refusal(key, closed.replace(/[:./]$/, ""));
  if (writable !== undefined && !writable.some((prefix) => key.startsWith(prefix)))
    throw refusal(key, /^[^:./]*/.exec(key)?.[0] ?? key);
}

function refusal(key: string, namespace: string): unknown {
  return pvbusError("ERR_READ_ONLY", `Cannot update the "${namespace}" Namespace.`, { key });
}
