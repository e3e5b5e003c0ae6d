import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import type { DriverPlatform, Transport, XenStoreDriver } from "./transport/transport.js";

/**
 * Finds the way to a XenStore daemon: the channel that the target names, else what the machine has.
 * @throws PvbusError `ERR_UNAVAILABLE` when there is none, `ERR_NOT_SUPPORTED` for a channel of another kind
 */
export type FindTransport = (host: Host, target: StoreTarget) => Transport;

/** Opens a driver that has an interface of its own. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION` */
export type OpenDriver = (platform: DriverPlatform) => Promise<XenStoreDriver>;

/** Token of the function that finds the way to a XenStore daemon. */
export const XEN_TRANSPORT: Token<FindTransport> = Symbol.for("pvbus.xen.Transport");
/** Token of the function that opens the driver of OpenBSD or Windows. */
export const XEN_DRIVER: Token<OpenDriver> = Symbol.for("pvbus.xen.Driver");
