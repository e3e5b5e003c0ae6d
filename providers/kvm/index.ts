export type { SourceName } from "./keys.js";
export { kvmModule } from "./module.js";
export type { KvmOptions } from "./options.js";
export { KvmProvider } from "./provider.js";
export { type FoundValue, KvmStore } from "./store.js";
