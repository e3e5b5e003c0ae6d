import type { Capabilities } from "../../src/bus/capabilities.js";
import type { Diagnosis } from "../../src/bus/diagnosis.js";
import { PvbusError, pvbusError } from "../../src/bus/errors.js";
import type { KernelStore } from "../../src/bus/kernel-store.js";
import type { Provider, StoreTarget } from "../../src/bus/provider.js";
import type { ProviderStore } from "../../src/bus/store.js";
import type { Host } from "../../src/host/host.js";
import { loadKoffi } from "../../src/native/koffi.js";
import { HypervKernelStore } from "./kernel-store.js";
import { checkOptions } from "./options.js";
import type { Locker } from "./pool-file.js";
import { openPool } from "./pool-opening.js";
import { hasPools, poolDirectory } from "./pool-places.js";
import { HypervStore, hypervCapabilities } from "./store.js";

/** Serves Hyper-V's KVP exchange from inside the guest: the pool files of Linux and FreeBSD. */
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

  /** What pool files can do. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    return hypervCapabilities(checkOptions(target.options));
  }

  /** Tells whether there are pool files at a usual place. */
  locate(): boolean {
    return hasPools(this.#host);
  }

  /**
   * Opens the pools; their files are opened on first use.
   * @throws PvbusError `ERR_NOT_SUPPORTED` where pools are no files, or for a channel
   */
  async open(target: StoreTarget): Promise<HypervStore> {
    if (target.channel !== undefined) {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        "Hyper-V pools are files, they take no channel; name a place with --sysroot",
      );
    }
    const host = this.#host;
    if (host.sysroot === undefined && host.platform !== "linux" && host.platform !== "freebsd") {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        `the Hyper-V store of ${host.platform} is not served yet; Linux and FreeBSD are`,
      );
    }
    const options = checkOptions(target.options);
    const directory = poolDirectory(host, options.directory);
    return new HypervStore({
      directory,
      options,
      logger: host.logger,
      createPool: (info) =>
        openPool(host, {
          info,
          directory,
          makePrivate: options.privatePools === true,
          create: options.createPools === true,
          durable: options.durable === true,
          scrub: options.scrubTails === true,
          lock: lockFamilies,
          canLock,
        }),
    });
  }

  /** Checks bus, service, device, daemon, pools and native calls. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseHyperv } = await import("./diagnose.js");
    return diagnoseHyperv(this.#host, checkOptions(target.options).directory);
  }

  /** The pools as OpenBSD's kernel serves them. */
  kernelStore(store: ProviderStore): KernelStore {
    return new HypervKernelStore(store as HypervStore);
  }
}

const lockFamilies: Locker = async (fd, { mode, call }) => {
  const { lockFile } = await import("../../src/native/file-lock.js");
  return lockFile(fd, { mode, call });
};

function canLock(): boolean {
  try {
    loadKoffi();
    return true;
  } catch (error) {
    if (PvbusError.is(error)) return false;
    throw error;
  }
}
