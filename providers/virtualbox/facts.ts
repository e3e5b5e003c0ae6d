import type { Call } from "../../src/base/flow/call.js";
import { putEntry } from "../../src/base/own.js";
import type { MachineFacts } from "../../src/contract/store.js";
import type { PropertySession } from "./session.js";

/** What the host says of itself and of the machine; what the guest's own agent says is left to that. */
const TOLD = "/VirtualBox/HostInfo/*|/VirtualBox/VMInfo/*";

/** Returns what the host says: its version, how often the machine was resumed and reset, what its window and remote display do. */
export async function machineFacts(session: PropertySession, call: Call): Promise<MachineFacts> {
  const other: Record<string, string> = {};
  for (const { name, value } of await session.enumerate(TOLD, call))
    if (value.length > 0) putEntry(other, name, Buffer.from(value).toString());
  return Object.keys(other).length === 0 ? {} : { other };
}
