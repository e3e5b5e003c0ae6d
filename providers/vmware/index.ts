export { type OvfAdapter, type OvfEnvironment, parseOvfEnvironment } from "../../src/base/ovf-environment.js";
export type {
  BackdoorPort,
  Operation,
  OperationMemory,
  Registers,
} from "../../src/native/vmware/backdoor-port.js";
export { VmwareDataSetStore, VmwareDataSets } from "./data-set-store.js";
export { vmwareManifest } from "./manifest.js";
export { vmwareModule } from "./module.js";
export { VmwareNamespace } from "./namespace.js";
export type { VmwareOptions } from "./options.js";
export { DataSetFailure, type DataSetInfo } from "./protocol/data-sets.js";
export { WELL_KNOWN_KEYS } from "./protocol/keys.js";
export {
  HostRefusal,
  type RpciAcceptance,
  type RpciRefusal,
  type RpciReply,
  type RpciRequest,
} from "./protocol/rpci.js";
export { VmwareProvider } from "./provider.js";
export { RpciSession, type SessionParts } from "./session.js";
export { type ClearOutcome, type CloudInitData, VmwareStore } from "./store.js";
export { BackdoorTransport } from "./transport/backdoor.js";
export { ExchangeFailure, type ExchangeHints, type RpcTransport } from "./transport/rpc-transport.js";
export type { Privilege } from "./transport/sources.js";
export { type OpenTransports, VMWARE_TRANSPORTS } from "./transports.js";
