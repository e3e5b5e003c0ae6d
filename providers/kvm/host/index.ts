export { type Administration, type GuestEntry, openAdministration } from "./administration.js";
export { type HostConfiguration, parseConfiguration } from "./configuration.js";
export { type Endpoint, parseEndpoint, type SocketOwner } from "./endpoints.js";
export { DEFAULT_LIMITS, type GuestLimits } from "./limits.js";
export { DEFAULT_NAMESPACES, type Namespaces } from "./namespaces.js";
export { MetadataHost, type MetadataHostOptions, type ServedGuest } from "./server.js";
