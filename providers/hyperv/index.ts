export { decodeRecord, encodeRecord, type PoolRecord, RECORD_SIZE } from "./codec.js";
export type { PoolInfo, PoolName } from "./keys.js";
export { createKvpDaemon, type KvpDaemonOptions, type KvpService } from "./kvpd/create.js";
export { type ReceiveOptions, receiveKvp } from "./kvpd/receive.js";
export { hypervModule } from "./module.js";
export type { HypervOptions } from "./options.js";
export { HypervProvider } from "./provider.js";
export { HypervStore } from "./store.js";
