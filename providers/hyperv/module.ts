import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { HypervProvider } from "./provider.js";

/** Binds the Hyper-V provider. */
export const hypervModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new HypervProvider(host), [HOST]);
});
