export { lxdManifest } from "./manifest.js";
export { lxdModule } from "./module.js";
export type { LxdOptions } from "./options.js";
export type { Instance as LxdInstance } from "./protocol/answers.js";
export type { InstanceType } from "./protocol/keys.js";
export { LxdProvider } from "./provider.js";
export { LxdStore } from "./store.js";
export type { Product } from "./transport/locate.js";
export { type FindTransport, LXD_TRANSPORT, type LxdTransport } from "./transport/transport.js";
