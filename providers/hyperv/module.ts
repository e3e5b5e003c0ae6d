import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import type { ProviderModule } from "../../src/contract/manifest.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { HYPERV_POOLS, type OpenPools, openPools } from "./keeper.js";
import { HypervProvider } from "./provider.js";

/** Binds the Hyper-V provider and what opens the pools for it. */
export const hypervModule: ProviderModule = new ContainerModule(({ bind }) => {
  bind(HYPERV_POOLS).toConstantValue(openPools);
  bind(PROVIDER).toResolvedValue(
    (host: Host, open: OpenPools) => new HypervProvider(host, open),
    [HOST, HYPERV_POOLS],
  );
});
