import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import type { ProviderModule } from "../../src/contract/manifest.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { VmwareProvider } from "./provider.js";
import { type OpenTransports, openTransports, VMWARE_TRANSPORTS } from "./transports.js";

/** Binds the VMware provider and what chooses its transports. */
export const vmwareModule: ProviderModule = new ContainerModule(({ bind }) => {
  bind(VMWARE_TRANSPORTS).toConstantValue(openTransports);
  bind(PROVIDER).toResolvedValue(
    (host: Host, open: OpenTransports) => new VmwareProvider(host, open),
    [HOST, VMWARE_TRANSPORTS],
  );
});
