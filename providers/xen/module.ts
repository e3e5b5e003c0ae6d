import { ContainerModule } from "inversify";
import { HOST, PROVIDER } from "../../src/bus/tokens.js";
import type { Host } from "../../src/host/host.js";
import { XenProvider } from "./provider.js";

/** Binds the Xen provider. */
export const xenModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new XenProvider(host), [HOST]);
});
