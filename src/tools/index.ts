export {
  type Credential,
  type CredentialOptions,
  type CredentialReport,
  type CredentialSource,
  getCredential,
  listCredentials,
} from "./creds/credentials.js";
export { type ExportOptions, exportCredentials } from "./creds/export.js";
export { type NumberedOptions, type NumberedValue, readNumbered } from "./numbered.js";
export { type ReadyOptions, tellReady } from "./ready/ready.js";
export { checkTrust, type TrustOptions } from "./trust.js";
export { type NoCloudOptions, type NoCloudSeed, writeNoCloudSeed } from "./userdata/nocloud.js";
export {
  BOOT_DATA_KINDS,
  type BootDataLook,
  type BootDataSearch,
  type BootDataSource,
  type BootDataValue,
  getBootData,
  listBootData,
  lookFor,
  type UserdataOptions,
} from "./userdata/search.js";
export type { SeedOutcome } from "./userdata/seed-directory.js";
export { type UntilThereOptions, untilThere } from "./wait.js";
