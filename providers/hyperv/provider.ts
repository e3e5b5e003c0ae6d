import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Capabilities } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { capabilitiesOf } from "./capabilities.js";
import { HypervHostctlStore } from "./hostctl.js";
import { keeperOf, type OpenPools, openPools } from "./keeper.js";
import { completeOptions } from "./options.js";
import { HypervStore } from "./store.js";

/** Serves Hyper-V's KVP exchange from inside the guest: pool files, Windows' registry, OpenBSD's kernel. */
export class HypervProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "hyperv";
  /** Type string of pvbus(4). */
  readonly type = "Hyper-V";
  readonly #host: Host;
  readonly #openPools: OpenPools;

  /**
   * @param host the machine to work on
   * @param open opens what keeps the pools
   */
  constructor(host: Host, open: OpenPools = openPools) {
    this.#host = host;
    this.#openPools = open;
  }

  /** What the pools of this operating system can do. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    return capabilitiesOf(keeperOf(this.#host) ?? "files", completeOptions(target.options));
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
    const capabilities = this.capabilities(target);
    return new HypervStore(await this.#openPools(this.#host, target), capabilities, closing, this.#host);
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
