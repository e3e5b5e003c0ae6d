import { ContainerModule } from "inversify";
import type { Host } from "../../src/base/host/host.js";
import type { ProviderModule } from "../../src/contract/manifest.js";
import { HOST, PROVIDER } from "../../src/contract/tokens.js";
import { type FindSources, findSources, KVM_SOURCES } from "./capabilities.js";
import { KvmProvider } from "./provider.js";

/** Binds the KVM provider and what finds its sources. */
export const kvmModule: ProviderModule = new ContainerModule(({ bind }) => {
  bind(KVM_SOURCES).toConstantValue(findSources);
  bind(PROVIDER).toResolvedValue(
    (host: Host, find: FindSources) => new KvmProvider(host, find),
    [HOST, KVM_SOURCES],
  );
});
