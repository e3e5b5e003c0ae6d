import { formsOf, isTooLong, MAX_PATH_BYTES, readChannel } from "../../../../src/base/host/channel.js";

/** How Firecracker and Cloud Hypervisor map a guest's vsock: its connections to the host's port arrive at `PATH_PORT`. */
export interface VsockMapping {
  /** Path that the hypervisor was given. */
  readonly path: string;
  /** Port that the guest connects to. */
  readonly port: number;
}

/** We listen at a UNIX socket: QEMU with `server=off,reconnect=…`, the vsock of a light hypervisor, any local client. */
export interface ListenEndpoint {
  /** Which of the two. */
  readonly kind: "listen";
  /** Path of the socket. */
  readonly path: string;
  /** The vsock that stands behind it. */
  readonly vsock?: VsockMapping;
}

/** The hypervisor listens: QEMU with `server=on,wait=off`, libvirt's `mode='bind'`, bhyve. */
export interface ConnectEndpoint {
  /** Which of the two. */
  readonly kind: "connect";
  /** Path of the socket. */
  readonly path: string;
}

/** Where one guest is met. */
export type Endpoint = ListenEndpoint | ConnectEndpoint;

/** Whose a listening socket becomes: the user that the hypervisor runs as. */
export interface SocketOwner {
  /** User id. */
  readonly uid: number;
  /** Group id. */
  readonly gid: number;
}

const KINDS = {
  unix: "unix:PATH (we listen)",
  connect: "connect:PATH (the hypervisor listens)",
  "vsock-socket": "vsock:PATH:PORT (Firecracker, Cloud Hypervisor)",
} as const;

/** Reads an endpoint as the command line has it. @throws TypeError naming the forms there are */
export function parseEndpoint(text: string): Endpoint {
  const channel = readChannel(text, KINDS);
  if (channel === undefined) throw new TypeError(`'${text}' is no endpoint; write ${formsOf(KINDS)}`);
  const isVsock = channel.kind === "vsock-socket";
  // The hypervisor connects a guest's port P to the socket PATH_P.
  const path = isVsock ? `${channel.path}_${channel.port}` : channel.path;
  checkSocketPath(path);
  if (isVsock) return { kind: "listen", path, vsock: { path: channel.path, port: channel.port } };
  return { kind: channel.kind === "connect" ? "connect" : "listen", path };
}

/** Returns an endpoint as {@link parseEndpoint} reads it. */
export function endpointText(endpoint: Endpoint): string {
  if (endpoint.kind === "connect") return `connect:${endpoint.path}`;
  const { vsock } = endpoint;
  return vsock === undefined ? `unix:${endpoint.path}` : `vsock:${vsock.path}:${vsock.port}`;
}

/** Checks that the system takes a socket's path, which longer ones would be cut for. @throws TypeError */
export function checkSocketPath(path: string): void {
  if (!isTooLong(path)) return;
  const why = `has ${Buffer.byteLength(path)} bytes; the system takes ${MAX_PATH_BYTES}: choose a shorter one`;
  throw new TypeError(`the socket path ${path} ${why}`);
}

export type Fields = Readonly<Record<string, unknown>>;

/** @param known the fields that there are; any where none are given @throws TypeError for anything else, and for other fields */
export function objectOf(value: unknown, where: string, known?: readonly string[]): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new TypeError(`${where} must be an object`);
  const unknown = known && Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new TypeError(`${where} has no field ${unknown}; there are: ${known?.join(", ")}`);
  return value as Fields;
}
