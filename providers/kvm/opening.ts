import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import { ChannelClient } from "./channel/client.js";
import { MetadataChannel } from "./channel/metadata.js";
import { completeOptions } from "./options.js";
import { capabilitiesOf, findSources } from "./sources.js";
import { KvmStore } from "./store.js";

/**
 * Opens the sources of a machine; the channel is opened on first use.
 * @throws PvbusError `ERR_UNAVAILABLE` for a channel that cannot be; TypeError for unknown or malformed settings
 */
export function openKvmStore(host: Host, target: StoreTarget): KvmStore {
  const options = completeOptions(target.options);
  const sources = findSources(host, target, options);
  const { endpoint, statics } = sources;
  const { maxLineBytes, portName, pollMs, confirmMs } = options;
  return new KvmStore({
    channel: endpoint && new MetadataChannel(new ChannelClient(endpoint, options), maxLineBytes),
    statics,
    capabilities: capabilitiesOf(sources),
    portName,
    watching: { pollMs, confirmMs },
    logger: host.logger,
  });
}
