import type { Host } from "../../src/base/host/host.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import type { Token } from "../../src/contract/tokens.js";
import type { Sources } from "./capabilities.js";

/** Finds the sources of a machine; nothing is opened yet. @throws PvbusError `ERR_NOT_SUPPORTED`, `ERR_UNAVAILABLE` for a channel */
export type FindSources = (host: Host, target: StoreTarget) => Sources;

/** Token of the function that finds the sources: the metadata channel's transport, fw_cfg, SMBIOS. */
export const KVM_SOURCES: Token<FindSources> = Symbol.for("pvbus.kvm.Sources");
