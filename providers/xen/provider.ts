import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import { checkOptions } from "../../src/base/options.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { CAPABILITIES, type Way } from "./capabilities.js";
import { XenStoreClient } from "./client/client.js";
import type { XenDriverStore } from "./driver-store.js";
import { XenHostctlStore } from "./hostctl.js";
import { OPTIONS } from "./options.js";
import { keySyntax } from "./protocol/keys.js";
import { XenStore } from "./store.js";
import { type FindTransport, type OpenDriver, openDriver, transportOf } from "./transport/locate.js";

/** Serves Xen's XenStore, through a daemon's socket or a kernel's device. */
export class XenProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "xen";
  /** Type string of pvbus(4). */
  readonly type = "Xen";
  readonly #host: Host;
  readonly #findTransport: FindTransport;
  readonly #openDriver: OpenDriver;

  /**
   * @param host the machine to work on
   * @param findTransport finds the way to a daemon
   * @param open opens the driver where that has another interface
   */
  constructor(host: Host, findTransport: FindTransport = transportOf, open: OpenDriver = openDriver) {
    this.#host = host;
    this.#findTransport = findTransport;
    this.#openDriver = open;
  }

  /** What XenStore can do on this operating system. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    checkOptions(this.id, OPTIONS, target.options);
    return CAPABILITIES[this.#way(target)];
  }

  /**
   * Connects to the daemon, or opens the driver where that has another interface.
   * @param target its channel may be `unix:PATH` of a daemon's socket or `device:PATH` of a kernel's device
   * @throws PvbusError `ERR_UNAVAILABLE` when there is no way to the daemon, `ERR_PERMISSION`
   */
  async open(target: StoreTarget, call: Call, closing?: AbortSignal): Promise<XenStore | XenDriverStore> {
    const way = this.#way(target);
    const { encodeNames } = checkOptions(this.id, OPTIONS, target.options);
    const naming = { syntax: keySyntax(encodeNames), logger: this.#host.logger };
    if (way !== "daemon") {
      const { XenDriverStore } = await import("./driver-store.js");
      return new XenDriverStore(await this.#openDriver(way), naming, closing);
    }
    const client = new XenStoreClient(this.#findTransport(this.#host, target), naming.logger, closing);
    try {
      await client.connect(call);
    } catch (error) {
      await client.close();
      throw error;
    }
    return new XenStore(client, naming);
  }

  /** Checks whether the way to the daemon is there, whether it answers, and where this domain may write. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseXen } = await import("./diagnose.js");
    const peer = this.#way(target) === "daemon" ? "daemon" : "driver";
    const isFound = peer === "daemon" && target.channel === undefined;
    return diagnoseXen(this.#host, {
      peer,
      find: isFound ? () => this.#findTransport(this.#host, target) : undefined,
      open: (call) => this.open(target, call),
    });
  }

  /** XenStore as OpenBSD's kernel serves it. */
  hostctlStore(store: ProviderStore): HostctlStore {
    return new XenHostctlStore(
      "client" in store ? (store as XenStore).client : (store as XenDriverStore).nodes,
    );
  }

  /** What the store is reached through: a daemon, or a driver that has an interface of its own. */
  #way({ channel }: StoreTarget): Way {
    const { platform, sysroot, env } = this.#host;
    if (channel !== undefined || sysroot !== undefined || env["XENSTORED_PATH"]) return "daemon";
    return platform === "openbsd" || platform === "win32" ? platform : "daemon";
  }
}
