import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import type { PoolTransport } from "./transport/pool.js";

/** Opens what keeps the pools of a machine. @throws PvbusError `ERR_NOT_SUPPORTED`, `ERR_UNAVAILABLE` */
export type OpenPools = (host: Host, target: StoreTarget) => Promise<PoolTransport>;

/** Token of the function that opens the pools: files, the registry, OpenBSD's device. */
export const HYPERV_POOLS: Token<OpenPools> = Symbol.for("pvbus.hyperv.Pools");
