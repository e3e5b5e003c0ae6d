import type { Host } from "../../src/base/host/host.js";
import { putEntry } from "../../src/base/own.js";
import { type Capabilities, NO_CAPABILITIES, type Verbs } from "../../src/contract/capabilities.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { ShareableTransport } from "../../src/mdata/client/client.js";
import { completeOptions } from "./options.js";
import { FwCfgSource, hasFwCfg } from "./static/fwcfg.js";
import { hasSmbios, SmbiosSource } from "./static/smbios.js";
import type { StaticSource } from "./static/source.js";
import { findTransport, namedTransport } from "./transport/channels.js";

/** What this machine has. */
export interface Sources {
  /** Transport of the metadata channel. */
  readonly transport: ShareableTransport | undefined;
  /** The others. */
  readonly statics: readonly StaticSource[];
}

const ALL: Verbs = Object.freeze({ read: true, write: true, delete: true, list: true, watch: true });
const READ_ONLY: Verbs = Object.freeze({ ...ALL, write: false, delete: false, watch: false });

/**
 * Finds the sources by their devices, whatever the processor says of the hypervisor.
 * @throws PvbusError `ERR_NOT_SUPPORTED` or `ERR_UNAVAILABLE` for a channel that cannot be
 */
export function findSources(host: Host, { channel, options }: StoreTarget): Sources {
  const { staticNamespace, portName, maxItemBytes } = completeOptions(options);
  const statics: StaticSource[] = [];
  if (hasFwCfg(host))
    statics.push(new FwCfgSource(host, { namespace: staticNamespace, maxBytes: maxItemBytes }));
  if (hasSmbios(host)) statics.push(new SmbiosSource(host, staticNamespace));
  const transport = channel === undefined ? findTransport(host, portName) : namedTransport(host, channel);
  return { transport, statics };
}

/** Returns what can be done with sources. */
export function capabilitiesOf({ transport, statics }: Sources): Capabilities {
  const pools: Record<string, Verbs> = {};
  if (transport !== undefined) pools["meta"] = ALL;
  for (const { name } of statics) putEntry(pools, name, READ_ONLY);
  if (Object.keys(pools).length === 0) return NO_CAPABILITIES;
  // Which bytes a host keeps it says when the channel is used, long after the store was opened.
  return transport === undefined ? { ...READ_ONLY, binary: true, pools } : { ...ALL, binary: "host", pools };
}

/** Reports whether a machine has any of the sources, SMBIOS aside, which every machine has. */
export function hasSources(host: Host): boolean {
  const { transport, statics } = findSources(host, {});
  return transport !== undefined || statics.some(({ name }) => name === "fwcfg");
}
