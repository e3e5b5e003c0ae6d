export type { FoundValue } from "./lookup.js";
export { kvmModule } from "./module.js";
export type { KvmOptions } from "./options.js";
export type { SourceName } from "./protocol/keys.js";
export { KvmProvider } from "./provider.js";
export { KvmStore } from "./store.js";
