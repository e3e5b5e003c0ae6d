import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { KvmProvider } from "./provider.js";

/** Binds the KVM provider. */
export const kvmModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new KvmProvider(host), [HOST]);
});
