export {
  type Credential,
  type CredentialOptions,
  type CredentialReport,
  type CredentialSource,
  getCredential,
  listCredentials,
  type SkippedCredential,
  type UnreadableSource,
} from "./credentials.js";
export { type ExportOptions, exportCredentials } from "./credentials-export.js";
export { type NoCloudOptions, type NoCloudSeed, writeNoCloudSeed } from "./nocloud.js";
export { type NumberedOptions, type NumberedValue, readNumbered } from "./numbered.js";
export { type ReadyOptions, tellReady } from "./ready.js";
export type { CommandSettings } from "./sync/command.js";
export type { RepeatedSettings } from "./sync/repeated-command.js";
export { type FollowOptions, keysBelow, portableValues, type SyncSource } from "./sync/source.js";
export { type SyncOptions, type SyncReport, sync, syncOnce } from "./sync/sync.js";
export type { SyncContent } from "./sync/target.js";
export { type Delivered, deliverOnce, type TakeSource } from "./take.js";
export { checkTrust, type TrustOptions } from "./trust.js";
export type { SeedOutcome } from "./userdata/seed-directory.js";
export {
  BOOT_DATA_KINDS,
  type BootDataLook,
  type BootDataSearch,
  type BootDataSource,
  type BootDataValue,
  type FailedBootData,
  getBootData,
  listBootData,
  lookFor,
  type RemovedBootData,
  type UserdataOptions,
} from "./userdata.js";
export { type UntilThereOptions, untilThere } from "./wait.js";
