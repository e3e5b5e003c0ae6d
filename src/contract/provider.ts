import type { Call } from "../base/flow/call.js";
import type { Host } from "../base/host/host.js";
import type { Capabilities, Verbs } from "./capabilities.js";
import type { Diagnosis } from "./diagnosis.js";
import type { HostctlStore } from "./hostctl.js";
import type { ProviderStore } from "./store.js";

/** How a store is to be opened. */
export interface StoreTarget {
  /** Transport that the caller named, such as `unix:PATH`; undefined: the provider's own choice. */
  readonly channel?: string | undefined;
  /** Settings of the provider as the caller gave them; the provider validates them. */
  readonly options?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * The plug-in for one hypervisor interface. Constructed with the {@link Host} that it works on; construction does
 * no I/O and loads nothing native.
 */
export interface Provider {
  /** Lower-case id that it serves, as detection reports it: `hyperv`. */
  readonly id: string;
  /** Type string as OpenBSD's pvbus(4) has it: `Hyper-V`. */
  readonly type: string;
  /** What a store of this provider can do on this host, without opening one. */
  capabilities(target?: StoreTarget): Capabilities;
  /**
   * Opens a store. The interface opens once for all its callers: the call has no time limit, and its signal fires when
   * nobody waits any more or the interface is closed.
   * @param closing fires when the interface is closed, also while this runs: the store counts as closed then; undefined where
   *   nobody but the store's own `close` closes it
   * @throws PvbusError `ERR_UNAVAILABLE` when the transport is not there, `ERR_PERMISSION` when it refuses
   */
  open(target: StoreTarget, call: Call, closing?: AbortSignal): Promise<ProviderStore>;
  /** Says why this machine's store lacks a verb, and what would bring it; without it the hypervisor has no such operation. */
  explain?(verb: keyof Verbs, target: StoreTarget): string;
  /** Checks what the store needs on this host; native code only where a check is about it. */
  diagnose?(target: StoreTarget): Promise<readonly Diagnosis[]>;
  /** The interface as OpenBSD's kernel would serve it through `/dev/pvbusN`; undefined when its kernel has no key-value call for it. */
  hostctlStore?(store: ProviderStore): HostctlStore;
}
