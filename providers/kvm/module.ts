import { ContainerModule } from "inversify";
import { HOST, PROVIDER } from "../../src/bus/tokens.js";
import type { Host } from "../../src/host/host.js";
import { KvmProvider } from "./provider.js";

/** Binds the KVM provider. */
export const kvmModule: ContainerModule = new ContainerModule(({ bind }) => {
  bind(PROVIDER).toResolvedValue((host: Host) => new KvmProvider(host), [HOST]);
});
