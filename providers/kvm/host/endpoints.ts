import { createConnection, createServer, type Socket } from "node:net";
import { PvbusError } from "../../../src/base/errors.js";
import { onAbort, pause } from "../../../src/base/flow/abort.js";
import type { Held } from "../../../src/base/host/tree.js";
import { checkSocketPath, holdSocket, listenAt, type SocketOwner } from "./socket-place.js";

export type { SocketOwner } from "./socket-place.js";

/** How Firecracker and Cloud Hypervisor map a guest's vsock: its connections to the host's port arrive at `PATH_PORT`. */
export interface VsockMapping {
  /** Path that the hypervisor was given. */
  readonly path: string;
  /** Port that the guest connects to. */
  readonly port: number;
}

/** We listen at a UNIX socket: QEMU with `server=off,reconnect=…`, the vsock of a light hypervisor, any local client. */
export interface ListenEndpoint {
  /** Tells it from the other. */
  readonly kind: "listen";
  /** Path of the socket. */
  readonly path: string;
  /** The vsock that stands behind it. */
  readonly vsock?: VsockMapping;
}

/** The hypervisor listens: QEMU with `server=on,wait=off`, libvirt's `mode='bind'`, bhyve. */
export interface ConnectEndpoint {
  /** Tells it from the other. */
  readonly kind: "connect";
  /** Path of the socket. */
  readonly path: string;
}

/** Where one guest is met. */
export type Endpoint = ListenEndpoint | ConnectEndpoint;

/** An endpoint in service. */
export interface OpenEndpoint {
  /** Ends it; connections that it gave stay. */
  close(): Promise<void>;
}

/** What an endpoint gives. */
export interface EndpointEvents {
  /** A connection; the promise resolves when it is over, and never rejects. */
  readonly onConnection: (socket: Socket) => Promise<void>;
  /** The hypervisor's socket cannot be reached; said once per reason. */
  readonly onWaiting: (reason: string) => void;
  /** Whose a listening socket becomes; default: this process's. */
  readonly owner?: SocketOwner | undefined;
}

const FIRST_WAIT_MS = 50;
const LONGEST_WAIT_MS = 1_000;
/** A connection that lasted so long counts as a good one: the next attempt follows at once. */
const GOOD_CONNECTION_MS = 1_000;

const FORMS =
  "unix:PATH (we listen), connect:PATH (the hypervisor listens) or vsock:PATH:PORT (Firecracker, Cloud Hypervisor)";

/**
 * Reads an endpoint as the command line has it.
 * @throws TypeError naming the forms there are
 */
export function parseEndpoint(text: string): Endpoint {
  const at = text.indexOf(":");
  const scheme = text.slice(0, at);
  const rest = text.slice(at + 1);
  const vsock = /^(.+):(\d{1,10})$/.exec(rest);
  if (scheme === "unix" && rest !== "") return checked({ kind: "listen", path: rest });
  if (scheme === "connect" && rest !== "") return checked({ kind: "connect", path: rest });
  // The hypervisor connects a guest's port P to the socket PATH_P.
  if (scheme === "vsock" && vsock !== null && Number(vsock[2]) < 2 ** 32) {
    const mapping = { path: vsock[1] as string, port: Number(vsock[2]) };
    return checked({ kind: "listen", path: `${mapping.path}_${mapping.port}`, vsock: mapping });
  }
  throw new TypeError(`'${text}' is no endpoint; write ${FORMS}`);
}

/** Returns an endpoint as {@link parseEndpoint} reads it. */
export function endpointText(endpoint: Endpoint): string {
  if (endpoint.kind === "connect") return `connect:${endpoint.path}`;
  const { vsock } = endpoint;
  return vsock === undefined ? `unix:${endpoint.path}` : `vsock:${vsock.path}:${vsock.port}`;
}

function checked(endpoint: Endpoint): Endpoint {
  checkSocketPath(endpoint.path);
  return endpoint;
}

/** Opens an endpoint. @throws PvbusError `ERR_BUSY` when another program serves there, `ERR_PERMISSION`, `ERR_UNAVAILABLE` */
export function openEndpoint(endpoint: Endpoint, events: EndpointEvents): Promise<OpenEndpoint> {
  return endpoint.kind === "listen"
    ? listen(endpoint.path, events)
    : Promise.resolve(connect(endpoint.path, events));
}

/** Serves a UNIX socket that only its owner may use. */
export async function listen(
  path: string,
  { onConnection, owner }: Pick<EndpointEvents, "onConnection" | "owner">,
): Promise<OpenEndpoint> {
  const server = createServer((socket) => void onConnection(socket));
  return { close: await listenAt(server, path, owner) };
}

/** Keeps one connection to a socket that a hypervisor serves; it comes and goes with the machine. */
function connect(path: string, { onConnection, onWaiting }: EndpointEvents): OpenEndpoint {
  const stop = new AbortController();
  const attempts = (async () => {
    let waitMs = FIRST_WAIT_MS;
    let said = "";
    while (!stop.signal.aborted) {
      const outcome = await dial(path, stop.signal);
      if (typeof outcome === "string") {
        if (outcome !== said) onWaiting(outcome);
        said = outcome;
      } else {
        said = "";
        const began = performance.now();
        await onConnection(outcome);
        if (performance.now() - began > GOOD_CONNECTION_MS) waitMs = FIRST_WAIT_MS;
      }
      await pause(waitMs, stop.signal);
      waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
    }
  })();
  return {
    close: async () => {
      stop.abort();
      await attempts;
    },
  };
}

/** Returns a connection, or what speaks against it: an errno, a link of somebody else. */
function dial(path: string, signal: AbortSignal): Promise<Socket | string> {
  return new Promise((resolve) => {
    let held: Held | undefined;
    try {
      held = holdSocket(path);
    } catch (error) {
      resolve(reasonOf(error));
      return;
    }
    if (held === undefined) {
      resolve("ENOENT");
      return;
    }
    const socket = createConnection(held.path);
    let forget = (): void => undefined;
    const settle = (outcome: Socket | string): void => {
      forget();
      held[Symbol.dispose]();
      resolve(outcome);
    };
    forget = onAbort(signal, () => {
      socket.destroy();
      settle("aborted");
    });
    socket.once("connect", () => {
      socket.removeAllListeners("error");
      settle(socket);
    });
    socket.once("error", (error) => settle(reasonOf(error)));
  });
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return PvbusError.is(error) ? message : (code ?? message);
}
