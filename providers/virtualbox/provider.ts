import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import { CAPABILITIES } from "./capabilities.js";
import { checkVirtualBoxOptions } from "./options.js";
import { VirtualBoxStore } from "./store.js";
import { openDriverFile } from "./transport/device.js";
import type { OpenDriverFile } from "./transport/driver-file.js";

/** Serves VirtualBox' guest properties from inside the guest, through the driver of Linux or of VirtualBox' additions. */
export class VirtualBoxProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "virtualbox";
  /** Type string. */
  readonly type = "VirtualBox";
  readonly #host: Host;
  readonly #open: OpenDriverFile;

  /**
   * @param host the machine to work on
   * @param open opens the driver
   */
  constructor(host: Host, open: OpenDriverFile = openDriverFile) {
    this.#host = host;
    this.#open = open;
  }

  /** What guest properties can do. @throws TypeError for settings: there are none */
  capabilities(target: StoreTarget = {}): Capabilities {
    checkVirtualBoxOptions(target.options);
    return CAPABILITIES;
  }

  /**
   * Opens the driver and connects to the host's service.
   * @throws PvbusError `ERR_UNAVAILABLE` without a driver, or on a host without the service; `ERR_PERMISSION` where its nodes may
   *   not be opened; `ERR_NOT_SUPPORTED` for a channel that is no device
   */
  async open(target: StoreTarget, call: Call, closing?: AbortSignal): Promise<VirtualBoxStore> {
    checkVirtualBoxOptions(target.options);
    call.check("the opening of the store");
    const store = new VirtualBoxStore(this.#host, () => this.#open(this.#host, target), closing);
    try {
      await store.connect(call);
    } catch (error) {
      await store.close();
      throw error;
    }
    return store;
  }

  /** Checks the hardware, the driver, its nodes, the host's service and how full the store is. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseVirtualBox } = await import("./diagnose.js");
    return diagnoseVirtualBox(this.#host, target, this.#open);
  }
}
