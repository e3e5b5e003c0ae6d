import { ContainerModule } from "inversify";
import { HOST, PROVIDER } from "../../src/bus/tokens.js";
import type { Host } from "../../src/host/host.js";
import { HypervProvider } from "./provider.js";

/** Binds the Hyper-V provider. */
export const hypervModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new HypervProvider(host), [HOST]);
});
