import type { Call } from "../../src/bus/call.js";
import { type Capabilities, NO_CAPABILITIES } from "../../src/bus/capabilities.js";
import type { Diagnosis } from "../../src/bus/diagnosis.js";
import { pvbusError } from "../../src/bus/errors.js";
import type { KernelStore } from "../../src/bus/kernel-store.js";
import type { Provider, StoreTarget } from "../../src/bus/provider.js";
import type { ProviderStore } from "../../src/bus/store.js";
import type { Host } from "../../src/host/host.js";
import { CAPABILITIES, OPENBSD_CAPABILITIES } from "./capabilities.js";
import { XenStoreClient } from "./client.js";
import { XenKernelStore } from "./kernel-store.js";
import { keySyntax } from "./keys.js";
import type { OpenbsdXenStore } from "./openbsd-store.js";
import { checkOptions } from "./options.js";
import { place, transportOf } from "./places.js";
import { XenStore } from "./store.js";

/** Serves Xen's XenStore, through a daemon's socket or a kernel's device. */
export class XenProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "xen";
  /** Type string of pvbus(4). */
  readonly type = "Xen";
  readonly #host: Host;

  /** @param host the machine to work on */
  constructor(host: Host) {
    this.#host = host;
  }

  /** What XenStore can do on this operating system. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    checkOptions(target.options);
    if (target.channel !== undefined) return CAPABILITIES;
    if (this.#host.platform === "win32") return NO_CAPABILITIES;
    return this.#inKernel(target) ? OPENBSD_CAPABILITIES : CAPABILITIES;
  }

  /** Tells whether a daemon's socket or a kernel's device is at a usual place. */
  locate(): boolean {
    return place(this.#host) !== undefined;
  }

  /**
   * Connects to the daemon.
   * @param target its channel may be `unix:PATH` of a daemon's socket or `device:PATH` of a kernel's device
   * @throws PvbusError `ERR_UNAVAILABLE` when there is no way to the daemon, `ERR_PERMISSION`, `ERR_NOT_SUPPORTED` on Windows
   */
  async open(target: StoreTarget, call: Call): Promise<XenStore | OpenbsdXenStore> {
    const { encodeNames = false } = checkOptions(target.options);
    if (this.#inKernel(target)) {
      const { OpenbsdXenStore } = await import("./openbsd-store.js");
      return new OpenbsdXenStore(keySyntax(encodeNames), this.#host.logger);
    }
    return this.#connect(target, encodeNames, call);
  }

  async #connect(target: StoreTarget, encodeNames: boolean, call: Call): Promise<XenStore> {
    const { platform, logger } = this.#host;
    if (target.channel === undefined && platform === "win32") {
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        "XenStore of Windows guests is not supported; name a daemon's socket with a channel unix:PATH",
      );
    }
    const client = new XenStoreClient(transportOf(this.#host, target.channel), logger);
    try {
      await client.connect(call);
    } catch (error) {
      await client.close();
      throw error;
    }
    return new XenStore(client, keySyntax(encodeNames), logger);
  }

  /** Checks whether the way to the daemon is there, whether it answers, and where this domain may write. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseKernel, diagnoseXen } = await import("./diagnose.js");
    if (this.#inKernel(target)) return diagnoseKernel((call) => this.open(target, call));
    return diagnoseXen(this.#host, (call) => this.#connect(target, false, call), target.channel);
  }

  /** XenStore as OpenBSD's kernel serves it; where it does so itself, hostctl uses its device. */
  kernelStore(store: ProviderStore): KernelStore {
    return new XenKernelStore((store as XenStore).client);
  }

  /** Whether the operating system's kernel is the only way. */
  #inKernel({ channel }: StoreTarget): boolean {
    const { platform, sysroot, env } = this.#host;
    return platform === "openbsd" && channel === undefined && sysroot === undefined && !env["XENSTORED_PATH"];
  }
}
