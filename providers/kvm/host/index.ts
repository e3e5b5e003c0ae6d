export type { Administration, GuestEntry, GuestNews } from "./administration.js";
export { type HostConfiguration, parseConfiguration } from "./configuration.js";
export { openAdministration } from "./control-client.js";
export { cloudHypervisorArguments } from "./launch/cloud-hypervisor.js";
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
export { qemuArguments } from "./launch/qemu.js";
export { DEFAULT_LIMITS, type GuestLimits } from "./limits.js";
export { DEFAULT_NAMESPACES, type Namespaces } from "./namespaces.js";
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
