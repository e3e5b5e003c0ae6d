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

/**
 * Reads an endpoint as the command line has it.
 * @throws TypeError naming the forms there are
 */
export function parseEndpoint(text: string): Endpoint {
  const channel = readChannel(text, KINDS);
  if (channel === undefined) throw new TypeError(`'${text}' is no endpoint; write ${formsOf(KINDS)}`);
  const { kind, path } = channel;
  if (kind === "unix") return checked({ kind: "listen", path });
  if (kind === "connect") return checked({ kind, path });
  const { port } = channel;
  // The hypervisor connects a guest's port P to the socket PATH_P.
  return checked({ kind: "listen", path: `${path}_${port}`, vsock: { path, port } });
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

function checked(endpoint: Endpoint): Endpoint {
  checkSocketPath(endpoint.path);
  return endpoint;
}
