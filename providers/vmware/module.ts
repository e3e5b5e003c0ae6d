import { ContainerModule } from "inversify";
import { HOST, PROVIDER } from "../../src/bus/tokens.js";
import type { Host } from "../../src/host/host.js";
import { VmwareProvider } from "./provider.js";

/** Binds the VMware provider. */
export const vmwareModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new VmwareProvider(host), [HOST]);
});
