import { putEntry } from "../../src/base/own.js";
import { type Capabilities, NO_CAPABILITIES, type Verbs } from "../../src/contract/capabilities.js";
import type { Sources } from "./sources.js";

const ALL: Verbs = Object.freeze({ read: true, write: true, delete: true, list: true, watch: true });
const READ_ONLY: Verbs = Object.freeze({ ...ALL, write: false, delete: false, watch: false });

/** Returns what can be done with sources. */
export function capabilitiesOf({ transport, statics }: Sources): Capabilities {
  const pools: Record<string, Verbs> = {};
  if (transport !== undefined) pools["meta"] = ALL;
  for (const { name } of statics) putEntry(pools, name, READ_ONLY);
  if (Object.keys(pools).length === 0) return NO_CAPABILITIES;
  // Which bytes a host keeps it says when the channel is used, long after the store was opened.
  return transport === undefined ? { ...READ_ONLY, binary: true, pools } : { ...ALL, binary: "host", pools };
}
