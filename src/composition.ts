import { hypervManifest } from "../providers/hyperv/manifest.js";
import { kvmManifest } from "../providers/kvm/manifest.js";
import { lxdManifest } from "../providers/lxd/manifest.js";
import { virtualboxManifest } from "../providers/virtualbox/manifest.js";
import { vmwareManifest } from "../providers/vmware/manifest.js";
import { xenManifest } from "../providers/xen/manifest.js";
import type { Host } from "./base/host/host.js";
import type { Bus } from "./bus/bus.js";
import type { OpenOptions } from "./bus/open.js";
import type { LoadedProvider } from "./bus/providers.js";
import type { ProviderManifest } from "./contract/manifest.js";
import type { Provider } from "./contract/provider.js";
import { HOST, PROVIDER } from "./contract/tokens.js";

/** The providers that come with pvbus. A further one is a line here. */
export const BUILT_IN: readonly ProviderManifest[] = [
  hypervManifest,
  xenManifest,
  kvmManifest,
  vmwareManifest,
  virtualboxManifest,
  lxdManifest,
];

/**
 * Opens the bus: detects the interfaces and binds their providers. Loads detection, inversify and the providers that are
 * needed at this moment, native code not before a store needs it.
 * @returns the bus; empty on a machine without any hypervisor
 * @throws PvbusError `ERR_NOT_SUPPORTED` when `interfaces` names a type that no provider serves, `ERR_ABORTED`,
 * `ERR_TIMEOUT`; TypeError for malformed options and manifests
 */
export async function openPvbus(options: OpenOptions = {}): Promise<Bus> {
  const { openBus } = await import("./bus/open.js");
  return openBus(options, BUILT_IN, loadProvider);
}

/** Makes a manifest's provider in a container of its own, which sees no binding of another one. */
async function loadProvider(manifest: ProviderManifest, host: Host): Promise<LoadedProvider> {
  // Written so that the bundler sees what is used of it.
  const { Container } = await import("inversify");
  const module = await manifest.load();
  const container = new Container({ defaultScope: "Singleton" });
  container.bind(HOST).toConstantValue(host);
  try {
    await container.loadAsync(module as never);
    const provider = await container.getAsync<Provider>(PROVIDER);
    return { provider, close: () => container.unbindAllAsync() };
  } catch (error) {
    await container.unbindAllAsync().catch(() => undefined);
    throw error;
  }
}
