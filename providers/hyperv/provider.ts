import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { fileCapabilities, fileLimits, openbsdCapabilities, registryCapabilities } from "./capabilities.js";
import { HypervHostctlStore } from "./hostctl.js";
import { type CompleteOptions, completeOptions, refuseOptions } from "./options.js";
import { HypervStore } from "./store.js";
import { poolDirectory } from "./transport/files/directory.js";
import { filePools } from "./transport/files/open.js";
import type { PoolTransport } from "./transport/pool.js";

/** Serves Hyper-V's KVP exchange from inside the guest: pool files, Windows' registry, OpenBSD's kernel. */
export class HypervProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "hyperv";
  /** Type string of pvbus(4). */
  readonly type = "Hyper-V";
  readonly #host: Host;

  /** @param host the machine to work on */
  constructor(host: Host) {
    this.#host = host;
  }

  /** What the pools of this operating system can do. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    const options = completeOptions(target.options);
    switch (keeperOf(this.#host)) {
      case "registry":
        return registryCapabilities(options);
      case "openbsd-device":
        return openbsdCapabilities();
      default:
        return fileCapabilities(options);
    }
  }

  /**
   * Opens the pools; their files, keys or devices are opened on first use.
   * @throws PvbusError `ERR_NOT_SUPPORTED` where the system has no store, or for a channel; `ERR_UNAVAILABLE` without
   *   native calls where only they reach the pools
   */
  async open(target: StoreTarget, _call?: Call, closing?: AbortSignal): Promise<HypervStore> {
    if (target.channel !== undefined) {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        "Hyper-V pools take no channel; name a directory with --sysroot or the option directory",
      );
    }
    const transport = await this.#transport(completeOptions(target.options));
    return new HypervStore(transport, this.capabilities(target), closing);
  }

  async #transport(options: CompleteOptions): Promise<PoolTransport> {
    const host = this.#host;
    switch (keeperOf(host)) {
      case "files":
        return filePools(host, fileLimits(options), {
          directory: poolDirectory(host, options.directory),
          makePrivate: options.privatePools,
          create: options.createPools,
          durable: options.durable,
          scrub: options.scrubTails,
        });
      case "registry": {
        refuseOptions(options, ["directory"], "the pools of Windows are in the registry");
        const { registryPools } = await import("./transport/registry.js");
        return registryPools(host.logger, { create: options.createPools });
      }
      case "openbsd-device": {
        refuseOptions(options, Object.keys(options), "the pools of OpenBSD are in its kernel");
        const { openbsdPools } = await import("./transport/openbsd-device.js");
        return openbsdPools(host.logger);
      }
      default:
        throw pvbusError(
          "ERR_NOT_SUPPORTED",
          `${host.platform} keeps no pools of Hyper-V; Linux, FreeBSD, Windows and OpenBSD do`,
        );
    }
  }

  /** Checks bus, service, device, daemon, pools and native calls; where pools are no files, whether each can be read. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseHyperv, diagnoseStore } = await import("./diagnose.js");
    const options = completeOptions(target.options);
    if (keeperOf(this.#host) === "files") return diagnoseHyperv(this.#host, options.directory);
    return diagnoseStore(() => this.open(target));
  }

  /** The pools as OpenBSD's kernel serves them. */
  hostctlStore(store: ProviderStore): HostctlStore {
    return new HypervHostctlStore(store as HypervStore);
  }
}

/** What keeps the pools; a captured tree has files. */
function keeperOf({ sysroot, platform }: Host): "files" | "registry" | "openbsd-device" | undefined {
  if (sysroot !== undefined || platform === "linux" || platform === "freebsd") return "files";
  if (platform === "win32") return "registry";
  return platform === "openbsd" ? "openbsd-device" : undefined;
}
