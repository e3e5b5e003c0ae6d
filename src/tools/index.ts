export { type NumberedOptions, type NumberedValue, readNumbered } from "./numbered.js";
export type { CommandSettings } from "./sync/command.js";
export type { RepeatedSettings } from "./sync/repeated-command.js";
export { type FollowOptions, keysBelow, portableValues, type SyncSource } from "./sync/source.js";
export { type SyncOptions, type SyncReport, sync, syncOnce } from "./sync/sync.js";
export type { SyncContent } from "./sync/target.js";
export { type Delivered, deliverOnce, type TakeSource } from "./take.js";
export { type UntilThereOptions, untilThere } from "./wait.js";
