import type { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import type { SessionParts } from "./session.js";

/** Chooses the transports of a session. @throws PvbusError `ERR_NO_INTERFACE`, `ERR_UNAVAILABLE`, `ERR_NOT_SUPPORTED` */
export type OpenTransports = (host: Host, target: StoreTarget, call: Call) => Promise<SessionParts>;

/** Token of the function that chooses the transports: vsock, the backdoor, the vendor's library, OpenBSD's device. */
export const VMWARE_TRANSPORTS: Token<OpenTransports> = Symbol.for("pvbus.vmware.Transports");
