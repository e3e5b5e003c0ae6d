import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import { capabilitiesOf, type FindSources, findSources, NO_CHANNEL, type Sources } from "./capabilities.js";
import { completeOptions } from "./options.js";
import type { KvmStore } from "./store.js";

/**
 * Serves what a guest of QEMU, and of others with the same devices, has of its host: a metadata channel over virtio-serial, a
 * serial line, vsock or a UNIX socket; fw_cfg; SMBIOS.
 */
export class KvmProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "kvm";
  /** Type string of pvbus(4). */
  readonly type = "KVM";
  readonly #host: Host;
  readonly #find: FindSources;

  /** @param host the machine to work on @param find finds its sources */
  constructor(host: Host, find: FindSources = findSources) {
    this.#host = host;
    this.#find = find;
  }

  /** What the sources of this machine can do: without a channel nothing is written or watched. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    return capabilitiesOf(this.#sources(target));
  }

  /**
   * Opens the sources; the channel is opened on first use.
   * @param closing fires when the interface is closed
   * @throws PvbusError `ERR_NOT_SUPPORTED` or `ERR_UNAVAILABLE` for a channel that cannot be; TypeError for unknown or malformed settings
   */
  async open(target: StoreTarget, _call?: Call, closing?: AbortSignal): Promise<KvmStore> {
    const store = await import("./store.js");
    return new store.KvmStore(this.#sources(target), target, this.#host.logger, closing);
  }

  /** Says what the host would have to add for a verb that this machine does not have. */
  explain(): string {
    return NO_CHANNEL;
  }

  /** Checks each source: whether it is there, whether it may be read, whether the host answers. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseKvm } = await import("./diagnose.js");
    return diagnoseKvm(this.#host, target, () => this.open(target));
  }

  #sources(target: StoreTarget): Sources {
    // Whoever finds them need not look at all settings.
    completeOptions(target.options);
    return this.#find(this.#host, target);
  }
}
