import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { XenProvider } from "./provider.js";

/** Binds the Xen provider. */
export const xenModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new XenProvider(host), [HOST]);
});
