export type {
  BackdoorPort,
  Operation,
  OperationMemory,
  Registers,
} from "../../src/native/cpu/backdoor-port.js";
export { BackdoorTransport } from "./backdoor-transport.js";
export { VmwareDataSetStore } from "./data-set-store.js";
export { DataSetFailure, type DataSetInfo, VmwareDataSets } from "./data-sets.js";
export type { Privilege } from "./link.js";
export { vmwareModule } from "./module.js";
export { VmwareNamespace } from "./namespace-db.js";
export type { VmwareOptions } from "./options.js";
export { type OvfAdapter, type OvfEnvironment, parseOvfEnvironment } from "./ovf-environment.js";
export { VmwareProvider } from "./provider.js";
export {
  HostRefusal,
  type RpciAcceptance,
  type RpciRefusal,
  type RpciReply,
  type RpciRequest,
} from "./rpci.js";
export { RpciSession, type SessionParts } from "./session.js";
export { type ClearOutcome, type CloudInitData, VmwareStore } from "./store.js";
export { ExchangeFailure, type ExchangeHints, type RpcTransport } from "./transport.js";
export { WELL_KNOWN_KEYS } from "./well-known.js";
