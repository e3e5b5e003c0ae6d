import { PvbusError, pvbusError } from "../base/errors.js";
import type { Call } from "../base/flow/call.js";
import type { Host } from "../base/host/host.js";
import type { ProviderManifest } from "../contract/manifest.js";
import type { Provider } from "../contract/provider.js";

/** A provider with the container that made it. */
export interface LoadedProvider {
  /** The provider. */
  readonly provider: Provider;
  /** Releases what its container holds. */
  close(): Promise<void>;
}

/** Makes the provider of a manifest in a container of its own. */
export type LoadProvider = (manifest: ProviderManifest, host: Host) => Promise<LoadedProvider>;

/** The providers of one bus: each is loaded when it is first needed, and once. */
export class Providers {
  readonly manifests: readonly ProviderManifest[];
  readonly #host: Host;
  readonly #load: LoadProvider;
  readonly #loading = new Map<ProviderManifest, Promise<LoadedProvider>>();

  constructor(manifests: readonly ProviderManifest[], host: Host, load: LoadProvider) {
    this.manifests = manifests;
    this.#host = host;
    this.#load = load;
  }

  /**
   * Loads a manifest's provider, once for all callers. After a failure the next call begins again.
   * @throws PvbusError `ERR_UNAVAILABLE` that names the manifest, with what was thrown as its cause
   */
  provider(manifest: ProviderManifest, call: Call): Promise<Provider> {
    let loading = this.#loading.get(manifest);
    if (loading === undefined) {
      loading = this.#begin(manifest);
      this.#loading.set(manifest, loading);
    }
    return call.within(
      loading.then(({ provider }) => provider),
      `the loading of the provider ${manifest.id}`,
    );
  }

  /** Releases all containers; reports the first that failed. */
  async close(): Promise<void> {
    const all = [...this.#loading.values()];
    this.#loading.clear();
    const outcomes = await Promise.allSettled(
      all.map(async (each) => (await each.catch(() => undefined))?.close()),
    );
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  async #begin(manifest: ProviderManifest): Promise<LoadedProvider> {
    try {
      return await this.#load(manifest, this.#host);
    } catch (cause) {
      this.#loading.delete(manifest);
      if (PvbusError.is(cause)) throw cause;
      throw pvbusError(
        "ERR_UNAVAILABLE",
        `the provider ${manifest.id} (${manifest.type}) cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}; ` +
          "its manifest's load() must resolve with a ContainerModule of inversify ^8.2 that binds PROVIDER once",
        { cause },
      );
    }
  }
}
