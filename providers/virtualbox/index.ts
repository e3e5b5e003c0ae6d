export { virtualboxManifest } from "./manifest.js";
export { virtualboxModule } from "./module.js";
export type { DriverSystem, PointerBits } from "./protocol/ioctl.js";
export { PROPERTY_FLAGS, type Property, type PropertyFlag } from "./protocol/properties.js";
export { VirtualBoxProvider } from "./provider.js";
export { VirtualBoxStore } from "./store.js";
export {
  type DriverEnding,
  type DriverFile,
  type DriverMemory,
  type OpenDriverFile,
  VIRTUALBOX_DRIVER,
} from "./transport/driver-file.js";
