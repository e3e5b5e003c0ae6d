import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { dataSetCapabilities, guestinfoCapabilities, maxValueBytesOf } from "./capabilities.js";
import { VmwareDataSetStore } from "./data-set-store.js";
import { VmwareHostctlStore } from "./hostctl.js";
import { checkVmwareOptions } from "./options.js";
import { RpciSession } from "./session.js";
import { VmwareStore } from "./store.js";
import { type OpenTransports, openTransports } from "./transports.js";

/** Serves VMware's guestinfo from inside the guest: over vsock, the backdoor, VMware's library, OpenBSD's kernel. */
export class VmwareProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "vmware";
  /** Type string of pvbus(4). */
  readonly type = "VMware";
  readonly #host: Host;
  readonly #openTransports: OpenTransports;

  /**
   * @param host the machine to work on
   * @param open chooses the transports of a session
   */
  constructor(host: Host, open: OpenTransports = openTransports) {
    this.#host = host;
    this.#openTransports = open;
  }

  /** What guestinfo, or the DataSet that the options name, can do. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    const { dataset } = checkVmwareOptions(target.options);
    return dataset === undefined
      ? guestinfoCapabilities(maxValueBytesOf(this.#host, target))
      : dataSetCapabilities();
  }

  /**
   * Opens guestinfo, or the DataSet that the options name. Transports are opened on first use.
   * @throws PvbusError `ERR_NO_INTERFACE` where this is not VMware's hardware and no channel is named, `ERR_UNAVAILABLE` where
   *   that cannot be proved; `ERR_NOT_SUPPORTED` for a channel that is none
   */
  async open(
    target: StoreTarget,
    call: Call,
    closing?: AbortSignal,
  ): Promise<VmwareStore | VmwareDataSetStore> {
    const options = checkVmwareOptions(target.options);
    call.check("the opening of the store");
    const session = new RpciSession(await this.#openTransports(this.#host, target, call));
    if (options.dataset !== undefined)
      return new VmwareDataSetStore(session, options.dataset, { ...options, closing });
    return new VmwareStore(session, options, maxValueBytesOf(this.#host, target), closing);
  }

  /** Checks the hardware, vsock with its privileged ports, the backdoor and native calls. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseVmware } = await import("./diagnose.js");
    return diagnoseVmware(this.#host, target);
  }

  /** guestinfo as OpenBSD's kernel serves it. @throws PvbusError `ERR_NOT_SUPPORTED` for a DataSet */
  hostctlStore(store: ProviderStore): HostctlStore {
    if (store instanceof VmwareStore) return new VmwareHostctlStore(store);
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      "OpenBSD's kernel has no call for DataSets; leave the option dataset out",
    );
  }
}
