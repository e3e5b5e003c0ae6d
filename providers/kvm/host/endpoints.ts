import { chmod, chown, lstat, unlink } from "node:fs/promises";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { onAbort, pause } from "../../../src/bus/abort.js";
import { pvbusError } from "../../../src/bus/errors.js";
import { fromSystemError, isSystemError } from "../../../src/bus/system-error.js";

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

/** Whose a listening socket becomes: the user that the hypervisor runs as. */
export interface SocketOwner {
  /** User id. */
  readonly uid: number;
  /** Group id. */
  readonly gid: number;
}

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

/** Longest path of a UNIX socket, without the NUL: sun_path of Linux has 108 bytes, the BSDs' 104. */
const MAX_PATH_BYTES = process.platform === "linux" ? 107 : 103;
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

/** Gives an endpoint as {@link parseEndpoint} reads it. */
export function endpointText(endpoint: Endpoint): string {
  if (endpoint.kind === "connect") return `connect:${endpoint.path}`;
  const { vsock } = endpoint;
  return vsock === undefined ? `unix:${endpoint.path}` : `vsock:${vsock.path}:${vsock.port}`;
}

function checked(endpoint: Endpoint): Endpoint {
  checkSocketPath(endpoint.path);
  return endpoint;
}

/** Checks that the system takes a socket's path, which longer ones would be cut for. @throws TypeError */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_PATH_BYTES) return;
  const why = `has ${bytes} bytes; the system takes ${MAX_PATH_BYTES}: choose a shorter one`;
  throw new TypeError(`the socket path ${path} ${why}`);
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
  checkSocketPath(path);
  await removeStale(path);
  const server = createServer((socket) => void onConnection(socket));
  await bind(server, path);
  const close = (): Promise<void> => new Promise((resolve) => void server.close(() => resolve()));
  try {
    await chmod(path, 0o600);
    if (owner !== undefined) await chown(path, owner.uid, owner.gid);
  } catch (error) {
    await close();
    throw fromSystemError(error, { doing: `cannot give ${path} its owner` });
  }
  return { close };
}

/** Binds with a mask, so that there is no moment in which others may connect. */
function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(fromSystemError(error, { doing: `cannot listen at ${path}` })));
    server.once("listening", resolve);
    const mask = process.umask(0o077);
    try {
      server.listen(path);
    } finally {
      process.umask(mask);
    }
  });
}

/** Takes away the socket of a server that is gone, and nothing else. */
async function removeStale(path: string): Promise<void> {
  try {
    const found = await lstat(path);
    if (!found.isSocket()) {
      throw pvbusError(
        "ERR_UNAVAILABLE",
        `cannot listen at ${path}: it is no socket; choose another path or move it away`,
      );
    }
    if (await answers(path)) {
      throw pvbusError(
        "ERR_BUSY",
        `another program serves at ${path}; end it, or write connect:${path} where that is the hypervisor`,
      );
    }
    await unlink(path);
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return;
    throw fromSystemError(error, { doing: `cannot listen at ${path}` });
  }
}

/** Tells whether somebody accepts connections there. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      else reject(error);
    });
  });
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

/** Gives a connection, or the errno that speaks against it. */
function dial(path: string, signal: AbortSignal): Promise<Socket | string> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const abort = (): void => {
      socket.destroy();
      resolve("aborted");
    };
    const forget = onAbort(signal, abort);
    socket.once("connect", () => {
      forget();
      socket.removeAllListeners("error");
      resolve(socket);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      forget();
      resolve(error.code ?? error.message);
    });
  });
}
