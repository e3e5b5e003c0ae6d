import type { PortableHost } from "../../contract/portable-host.js";

// What administrators do with the hypervisor's own tools; programs in guests load none of it.

/**
 * Returns a script that gives a guest a value with the hypervisor's own tool: as it is where it fits one key, else as a set, in the
 * order of docs/portable-keys.md. A script with another value changes that, and removes what is left of the old one.
 * @param value text in UTF-8
 * @throws PvbusError `ERR_KEY_INVALID`, `ERR_VALUE_INVALID`, `ERR_VALUE_TOO_LONG`
 */
export async function splitForHost(
  host: PortableHost,
  namespace: string,
  name: string,
  value: Uint8Array,
): Promise<string> {
  return (await import("./host-script.js")).hostScript(host, namespace, name, value);
}

/**
 * Joins a value that a guest published from what the hypervisor's own tool has printed: JSON of any shape whose objects have a key
 * and a value, or the tool's own form.
 * @returns undefined when the guest published nothing under the name
 * @throws PvbusError `ERR_KEY_INVALID`, `ERR_VALUE_INVALID` for what only begins as JSON, `ERR_CONFLICT` where the parts do not belong
 * together, `ERR_CORRUPT` for a broken head record
 */
export async function joinFromHost(
  host: PortableHost,
  namespace: string,
  name: string,
  printed: Uint8Array,
): Promise<Uint8Array | undefined> {
  return (await import("./host-dump.js")).joinPrinted(host, namespace, name, printed);
}
