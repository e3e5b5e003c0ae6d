export type { SourceName } from "./keys.js";
export type { FoundValue } from "./lookup.js";
export { kvmModule } from "./module.js";
export type { KvmOptions } from "./options.js";
export { KvmProvider } from "./provider.js";
export { KvmStore } from "./store.js";
