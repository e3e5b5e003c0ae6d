import { posix } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import type { Host } from "../../../src/base/host/host.js";
import { connectTo } from "../../../src/base/host/unix-stream.js";
import type { StoreTarget } from "../../../src/contract/provider.js";
import type { Token } from "../../../src/contract/tokens.js";
import { type Product, SOCKETS, signsOf, whyNoSocket } from "./locate.js";

/** A way to the guest API's socket. */
export interface LxdTransport {
  /** Names it in messages. */
  readonly name: string;
  /** Whose it is, where the place says so. */
  readonly product: Product | undefined;
  /** Whether the socket's directory is there: while the daemon restarts it is, when the API is switched off for a container it is not. */
  hasDirectory(): boolean;
  /** Begins to connect. @throws a system error */
  connect(): ReturnType<typeof connectTo>;
}

/**
 * Finds the way to the guest API: the channel or the socket that the target names, else the usual places.
 * @throws PvbusError `ERR_UNAVAILABLE` when there is none
 */
export type FindTransport = (host: Host, target: StoreTarget, socket: string | undefined) => LxdTransport;

/** Token of the function that finds the way to the guest API. */
export const LXD_TRANSPORT: Token<FindTransport> = Symbol.for("pvbus.lxd.Transport");

const CHANNELS = { of: "LXD", kinds: { unix: "unix:PATH of the guest API's socket" } } as const;
/** The {@link FindTransport} of this machine. */
export function transportOf(host: Host, { channel }: StoreTarget, socket?: string): LxdTransport {
  const named = channel === undefined ? socket : parseChannel(channel, CHANNELS, host).path;
  if (named !== undefined) return transportAt(host, named);
  const signs = signsOf(host);
  if (signs?.socket !== undefined) return transportAt(host, signs.socket);
  throw pvbusError("ERR_UNAVAILABLE", whyNoSocket(host, signs));
}

function transportAt(host: Host, path: string): LxdTransport {
  return {
    name: host.path(path),
    product: SOCKETS.find(([name]) => name === posix.basename(posix.dirname(path)))?.[0],
    hasDirectory: () => host.files.kind(posix.dirname(path)) === "directory",
    connect: () => connectTo(host.files.holdSocket(path)),
  };
}
