import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { CAPABILITIES, OPENBSD_CAPABILITIES, XENIFACE_CAPABILITIES } from "./capabilities.js";
import { XenStoreClient } from "./client.js";
import type { DirectPlatform, DirectXenStore } from "./direct.js";
import { XenHostctlStore } from "./kernel-store.js";
import { keySyntax } from "./keys.js";
import { checkOptions } from "./options.js";
import { transportOf } from "./places.js";
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
    return CAPABILITIES_OF[this.#way(target)];
  }

  /**
   * Connects to the daemon, or opens the driver where that has another interface.
   * @param target its channel may be `unix:PATH` of a daemon's socket or `device:PATH` of a kernel's device
   * @throws PvbusError `ERR_UNAVAILABLE` when there is no way to the daemon, `ERR_PERMISSION`
   */
  async open(target: StoreTarget, call: Call): Promise<XenStore | DirectXenStore> {
    const { encodeNames = false } = checkOptions(target.options);
    const way = this.#way(target);
    if (way === "daemon") return this.#connect(target, encodeNames, call);
    const { directAccess, DirectXenStore } = await import("./direct.js");
    return new DirectXenStore(await directAccess(way), keySyntax(encodeNames), this.#host.logger);
  }

  async #connect(target: StoreTarget, encodeNames: boolean, call: Call): Promise<XenStore> {
    const { logger } = this.#host;
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
    const { diagnoseDriver, diagnoseXen } = await import("./diagnose.js");
    if (this.#way(target) !== "daemon") return diagnoseDriver((call) => this.open(target, call));
    return diagnoseXen(this.#host, (call) => this.#connect(target, false, call), target.channel);
  }

  /** XenStore as OpenBSD's kernel serves it. */
  hostctlStore(store: ProviderStore): HostctlStore {
    return new XenHostctlStore(
      "client" in store ? (store as XenStore).client : (store as DirectXenStore).nodes,
    );
  }

  /** What the store is reached through: a daemon, or at its usual place a driver that has an interface of its own. */
  #way({ channel }: StoreTarget): Way {
    const { platform, sysroot, env } = this.#host;
    if (channel !== undefined || sysroot !== undefined || env["XENSTORED_PATH"]) return "daemon";
    return platform === "openbsd" || platform === "win32" ? platform : "daemon";
  }
}

type Way = "daemon" | DirectPlatform;

const CAPABILITIES_OF: Readonly<Record<Way, Capabilities>> = {
  daemon: CAPABILITIES,
  openbsd: OPENBSD_CAPABILITIES,
  win32: XENIFACE_CAPABILITIES,
};
