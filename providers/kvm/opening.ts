import { Closing } from "../../src/base/flow/closing.js";
import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import { MetadataChannel } from "../../src/mdata/client/channel.js";
import { ChannelClient } from "../../src/mdata/client/client.js";
import { capabilitiesOf } from "./capabilities.js";
import { completeOptions } from "./options.js";
import { findSources } from "./sources.js";
import { KvmStore } from "./store.js";

/**
 * Opens the sources of a machine; the channel is opened on first use.
 * @param interfaceClosing fires when the interface is closed
 * @throws PvbusError `ERR_NOT_SUPPORTED` or `ERR_UNAVAILABLE` for a channel that cannot be; TypeError for unknown or malformed settings
 */
export function openKvmStore(host: Host, target: StoreTarget, interfaceClosing?: AbortSignal): KvmStore {
  const options = completeOptions(target.options);
  const sources = findSources(host, target, options);
  const { transport, statics } = sources;
  const { maxLineBytes, portName, pollMs, confirmMs } = options;
  const closing = new Closing(interfaceClosing);
  return new KvmStore({
    channel: transport && new MetadataChannel(new ChannelClient(transport, options, closing), maxLineBytes),
    statics,
    capabilities: capabilitiesOf(sources),
    portName,
    watching: { pollMs, confirmMs },
    closing,
    logger: host.logger,
  });
}
