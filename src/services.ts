import type { KvpDaemonOptions, KvpService } from "../providers/hyperv/kvpd/create.js";
import type { ReceiveOptions } from "../providers/hyperv/receive.js";
import type { Host } from "./base/host/host.js";
import type { StoreEntry } from "./contract/store.js";

/*
 * The composition of what is no store: the services that a provider offers besides. Like the container it is the only
 * place outside the providers that knows them, and loads them when they are called.
 */

export type {
  Administration,
  GuestEntry,
  HostConfiguration,
  LaunchDescription,
  MetadataHost,
  ServedGuest,
  SizeOf,
} from "../providers/kvm/host/index.js";

export type { PermissionTexts } from "../providers/xen/permission-text.js";

/** Makes Hyper-V's KVP daemon for a host. */
export async function createKvpDaemon(host: Host, options?: KvpDaemonOptions): Promise<KvpService> {
  return (await import("../providers/hyperv/kvpd/create.js")).createKvpDaemon(host, options);
}

/** Receives what a Hyper-V host has for this guest, without a daemon. */
export async function receiveKvp(host: Host, options?: ReceiveOptions): Promise<readonly StoreEntry[]> {
  return (await import("../providers/hyperv/receive.js")).receiveKvp(host, options);
}

/** Loads the host side of KVM's metadata channel. */
export function loadKvmHost(): Promise<typeof import("../providers/kvm/host/index.js")> {
  return import("../providers/kvm/host/index.js");
}

/** Loads what shows and sets the permissions of XenStore's nodes. */
export function loadPermissions(): Promise<typeof import("../providers/xen/permission-text.js")> {
  return import("../providers/xen/permission-text.js");
}
