export {
  type Administration,
  type GuestEntry,
  type GuestNews,
  openAdministration,
} from "./administration.js";
export { type HostConfiguration, parseConfiguration } from "./configuration.js";
export { cloudHypervisorArguments, qemuArguments } from "./launch/arguments.js";
export {
  type LaunchBytes,
  type LaunchChannel,
  type LaunchDescription,
  type LaunchFile,
  type LaunchKey,
  type LaunchSource,
  type LaunchValue,
  parseDescription,
} from "./launch/description.js";
export { type DomainPart, libvirtParts } from "./launch/libvirt.js";
export type { SizeOf } from "./launch/plan.js";
export { DEFAULT_LIMITS, DEFAULT_NAMESPACES, type GuestLimits, type Namespaces } from "./limits.js";
export type { GuestPresence } from "./presence.js";
export { MetadataHost, type MetadataHostOptions, type ServedGuest } from "./server.js";
export {
  type ConnectEndpoint,
  type Endpoint,
  endpointText,
  type ListenEndpoint,
  parseEndpoint,
  type SocketOwner,
  type VsockMapping,
} from "./settings/endpoint.js";
export { checkGuestName, type GuestDamage } from "./state-directory.js";
export { type AwaitedValue, waitForValue } from "./waiting.js";
