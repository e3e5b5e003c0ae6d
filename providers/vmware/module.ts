import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { VmwareProvider } from "./provider.js";

/** Binds the VMware provider. */
export const vmwareModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new VmwareProvider(host), [HOST]);
});
