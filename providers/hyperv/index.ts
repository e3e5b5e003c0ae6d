export { createKvpDaemon, type KvpDaemonOptions, type KvpService } from "./kvpd/create.js";
export { hypervModule } from "./module.js";
export type { HypervOptions } from "./options.js";
export type { PoolInfo, PoolName } from "./protocol/keys.js";
export { decodeRecord, encodeRecord, type PoolRecord, RECORD_SIZE } from "./protocol/record.js";
export { HypervProvider } from "./provider.js";
export { type ReceiveOptions, receiveKvp } from "./receive.js";
export { HypervStore } from "./store.js";
