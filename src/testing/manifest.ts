import type { Host } from "../base/host/host.js";
import type { ProviderManifest } from "../contract/manifest.js";
import type { Provider } from "../contract/provider.js";
import { HOST, PROVIDER } from "../contract/tokens.js";

const EVERYWHERE = Object.freeze(["linux", "freebsd", "openbsd", "netbsd", "darwin", "win32"] as const);

let modules = 0;

/**
 * Makes a manifest of a provider that has no package of its own, for tests of providers and of programs that use pvbus.
 * @param names id and type of the interface, and other fields of the manifest
 * @param create makes the provider for a host
 */
export function manifestOf(
  names: Pick<ProviderManifest, "id" | "type"> & Partial<ProviderManifest>,
  create: (host: Host) => Provider,
): ProviderManifest {
  const systems = {
    read: EVERYWHERE,
    write: EVERYWHERE,
    delete: EVERYWHERE,
    list: EVERYWHERE,
    watch: EVERYWHERE,
  };
  return {
    systems,
    load: async () => ({
      id: --modules,
      load: ({ bind }: Binder) => {
        bind(PROVIDER).toResolvedValue(create, [HOST]);
      },
    }),
    ...names,
  };
}

/** The part of inversify's options that the module uses. */
interface Binder {
  bind(token: symbol): {
    toResolvedValue(create: (host: Host) => Provider, needs: readonly symbol[]): void;
  };
}
