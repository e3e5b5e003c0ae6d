export { XenStoreClient, type XenStoreWatchOptions } from "./client/client.js";
export { type CallLike, XenStoreRequests } from "./client/requests.js";
export type { Transaction, TransactionOptions } from "./client/transactions.js";
export type { WatchEvent, WatchSettings } from "./client/watches.js";
export type { XenDriverStore } from "./driver-store.js";
export { xenManifest } from "./manifest.js";
export { xenModule } from "./module.js";
export type { XenOptions } from "./options.js";
export { decodeName, decodePath, encodeName, encodePath } from "./protocol/keys.js";
export type { Access, Permission } from "./protocol/permissions.js";
export { XenStoreRefusal } from "./protocol/refusals.js";
export { XenProvider } from "./provider.js";
export { XenStore } from "./store.js";
export { type FindTransport, type OpenDriver, XEN_DRIVER, XEN_TRANSPORT } from "./transport/locate.js";
export type {
  DriverNode,
  DriverPlatform,
  StreamEvents,
  StreamPurpose,
  Transport,
  TransportStream,
  XenStoreDriver,
} from "./transport/transport.js";
