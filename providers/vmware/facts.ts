import type { OvfEnvironment } from "../../src/base/ovf-environment.js";
import { putEntry } from "../../src/base/own.js";
import type { MachineFacts } from "../../src/contract/store.js";

/** Keys that say what the machine is. */
const KEYS = ["guestinfo.hostname", "guestinfo.ip", "guestinfo.vmtools.description"] as const;

/** Returns what guestinfo says of the machine: its OVF environment's ids, its name and address. @param read reads a key as text */
export async function machineFacts(
  read: (key: string) => Promise<string | undefined>,
  environment: OvfEnvironment | undefined,
): Promise<MachineFacts> {
  const { id, vCenterId, platform = {} } = environment ?? {};
  const other: Record<string, string> = {};
  for (const key of KEYS) {
    const value = await read(key);
    if (value !== undefined && value !== "") putEntry(other, key, value);
  }
  if (id !== undefined) other["ovf.id"] = id;
  if (vCenterId !== undefined) other["ovf.vCenterId"] = vCenterId;
  for (const [name, value] of Object.entries(platform)) putEntry(other, `ovf.${name}`, value);
  return {
    ...(vCenterId === undefined ? {} : { vmId: vCenterId }),
    ...(Object.keys(other).length === 0 ? {} : { other }),
  };
}
