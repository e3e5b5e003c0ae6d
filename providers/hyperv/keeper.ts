import { pvbusError } from "../../src/base/errors.js";
import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import { fileLimits, type Keeper } from "./capabilities.js";
import { completeOptions, refuseOptions } from "./options.js";
import { poolDirectory } from "./transport/files/directory.js";
import { filePools } from "./transport/files/open.js";
import type { PoolTransport } from "./transport/pool.js";

/**
 * Opens what keeps the pools of a machine. @throws PvbusError `ERR_NOT_SUPPORTED` where the system has none or a setting has no
 * meaning, `ERR_UNAVAILABLE` without native calls where only they reach the pools
 */
export type OpenPools = (host: Host, target: StoreTarget) => Promise<PoolTransport>;

/** Token of the function that opens the pools: files, the registry, OpenBSD's device. */
export const HYPERV_POOLS: Token<OpenPools> = Symbol.for("pvbus.hyperv.Pools");

/** Returns what keeps the pools of a machine; a captured tree has files. */
export function keeperOf({ sysroot, platform }: Host): Keeper | undefined {
  if (sysroot !== undefined || platform === "linux" || platform === "freebsd") return "files";
  if (platform === "win32") return "registry";
  return platform === "openbsd" ? "openbsd-device" : undefined;
}

/** Opens the pools by what keeps them; their files, keys or devices are opened on first use. */
export const openPools: OpenPools = async (host, target) => {
  const options = completeOptions(target.options);
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
};
