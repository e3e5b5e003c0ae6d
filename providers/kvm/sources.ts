import type { Host } from "../../src/base/host/host.js";
import { putEntry } from "../../src/base/own.js";
import type { Capabilities, Verbs } from "../../src/contract/capabilities.js";
import { NO_CAPABILITIES } from "../../src/contract/capabilities.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Endpoint } from "./channel/link.js";
import { findChannel, parseChannel } from "./channel/places.js";
import { type CompleteOptions, completeOptions } from "./options.js";
import { FwCfgSource, hasFwCfg } from "./static/fwcfg.js";
import { hasSmbios, SmbiosSource } from "./static/smbios.js";
import type { StaticSource } from "./static/source.js";

/** What this machine has. */
export interface Sources {
  /** The metadata channel. */
  readonly endpoint: Endpoint | undefined;
  /** The others. */
  readonly statics: readonly StaticSource[];
}

const ALL: Verbs = Object.freeze({ read: true, write: true, delete: true, list: true, watch: true });
const READ_ONLY: Verbs = Object.freeze({ ...ALL, write: false, delete: false, watch: false });

/**
 * Finds the sources by their devices, whatever the processor says of the hypervisor.
 * @throws PvbusError `ERR_UNAVAILABLE` for a channel that cannot be
 */
export function findSources(host: Host, { channel }: StoreTarget, options: CompleteOptions): Sources {
  const { namespace, portName, maxItemBytes } = options;
  const statics: StaticSource[] = [];
  if (hasFwCfg(host)) statics.push(new FwCfgSource(host, { namespace, maxBytes: maxItemBytes }));
  if (hasSmbios(host)) statics.push(new SmbiosSource(host, namespace));
  const endpoint = channel === undefined ? findChannel(host, portName) : parseChannel(host, channel);
  return { endpoint, statics };
}

/** Returns what can be done with sources. */
export function capabilitiesOf({ endpoint, statics }: Sources): Capabilities {
  const pools: Record<string, Verbs> = {};
  if (endpoint !== undefined) pools["meta"] = ALL;
  for (const { name } of statics) putEntry(pools, name, READ_ONLY);
  if (Object.keys(pools).length === 0) return NO_CAPABILITIES;
  // Which bytes a host keeps it says when the channel is used, long after the store was opened.
  return endpoint === undefined ? { ...READ_ONLY, binary: true, pools } : { ...ALL, binary: "host", pools };
}

/** Reports whether a machine has any of the sources, SMBIOS aside, which every machine has. */
export function hasSources(host: Host): boolean {
  const { endpoint, statics } = findSources(host, {}, completeOptions());
  return endpoint !== undefined || statics.some(({ name }) => name === "fwcfg");
}
