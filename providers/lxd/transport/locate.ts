import { posix } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import type { Host } from "../../../src/base/host/host.js";
import { connectTo } from "../../../src/base/host/unix-stream.js";
import type { Located } from "../../../src/contract/manifest.js";
import type { StoreTarget } from "../../../src/contract/provider.js";
import type { Evidence } from "../../../src/contract/report.js";
import type { Token } from "../../../src/contract/tokens.js";

/** Whose guest API it is. */
export type Product = "incus" | "lxd";

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
/** In a machine of Incus `/dev/lxd` is a link to `/dev/incus`: the first that is there is the one store. */
const SOCKETS = [
  ["incus", "/dev/incus/sock"],
  ["lxd", "/dev/lxd/sock"],
] as const;
/** They stay when the API is switched off for a container. */
const MOUNTS = [
  ["incus", "/dev/.incus-mounts"],
  ["lxd", "/dev/.lxd-mounts"],
] as const;
const BOARDS = [
  ["incus", "LinuxContainers", "Incus"],
  ["lxd", "Canonical Ltd.", "LXD"],
] as const;
const PORTS = ["org.linuxcontainers.incus", "com.canonical.lxd", "org.linuxcontainers.lxd"];
const DMI = "/sys/class/dmi/id";
const MAX_ATTRIBUTE_BYTES = 256;

/** What speaks for a guest of LXD or Incus. */
export interface Signs {
  readonly product: Product;
  /** Path of the socket that is there. */
  readonly socket: string | undefined;
  /** The sign of a container. */
  readonly mounts: boolean;
  /** The sign of a machine. */
  readonly board: boolean;
  readonly evidence: readonly Evidence[];
}

/** Looks for the sockets and for what else shows a guest of LXD or Incus; undefined where nothing does. */
export function signsOf({ files, platform }: Host): Signs | undefined {
  if (platform !== "linux") return undefined;
  const evidence: Evidence[] = [];
  const found = SOCKETS.find(([, path]) => files.kind(path) === "socket");
  if (found !== undefined) evidence.push({ source: "path", detail: `${found[1]} is a socket` });
  const mounts = MOUNTS.find(([, path]) => files.kind(path) === "directory");
  if (mounts !== undefined) evidence.push({ source: "path", detail: `${mounts[1]} is there` });
  // In a container the firmware's texts are the machine's.
  const board = mounts === undefined ? boardOf(files) : undefined;
  if (board !== undefined)
    evidence.push({ source: "dmi", detail: `board_vendor: ${board[1]}, board_name: ${board[2]}` });
  const port = PORTS.find((name) => files.kind(`/dev/virtio-ports/${name}`) !== undefined);
  if (port !== undefined) evidence.push({ source: "path", detail: `/dev/virtio-ports/${port} is there` });
  const product = (found ?? mounts ?? board)?.[0];
  if (product === undefined) return undefined;
  const socket = found?.[1];
  return { product, socket, mounts: mounts !== undefined, board: board !== undefined, evidence };
}

/** Reports whether a guest API is here, or would be if it were not switched off. */
export function locate(host: Host): Located | false {
  const signs = signsOf(host);
  const [first, ...others] = signs?.evidence ?? [];
  if (signs === undefined || first === undefined) return false;
  const kind = signs.mounts ? "container" : signs.board ? "virtual-machine" : undefined;
  const details = { product: signs.product, ...(kind === undefined ? {} : { instanceType: kind }) };
  return { evidence: [first, ...others], details };
}

/** The {@link FindTransport} of this machine. */
export function transportOf(host: Host, { channel }: StoreTarget, socket?: string): LxdTransport {
  const named = channel === undefined ? socket : parseChannel(channel, CHANNELS, host).path;
  if (named !== undefined) return transportAt(host, named);
  const signs = signsOf(host);
  if (signs?.socket !== undefined) return transportAt(host, signs.socket);
  throw pvbusError("ERR_UNAVAILABLE", whyNoSocket(host, signs));
}

/** Says why there is no socket, and what would bring one. */
export function whyNoSocket({ files }: Host, signs: Signs | undefined): string {
  if (signs === undefined)
    return `no guest API of LXD or Incus is here: neither ${SOCKETS.map(([, path]) => path).join(" nor ")} is there; name its socket with a channel unix:PATH`;
  const [name, option] = NAMES[signs.product];
  if (signs.mounts)
    return `the host has switched the guest API off for this container; on the host: ${signs.product === "lxd" ? "lxc" : "incus"} config set NAME ${option}=true`;
  const ran = files.kind(`/dev/${signs.product}`) === "directory";
  const why = ran
    ? "has ended, or the host has switched it off"
    : "is not running, or the host has switched it off";
  return `this VM runs on ${name}, whose guest API needs ${signs.product}-agent, which ${why}; start ${signs.product}-agent`;
}

/** Names of the products and of what switches the API. */
export const NAMES: Readonly<Record<Product, readonly [name: string, option: string]>> = {
  incus: ["Incus", "security.guestapi"],
  lxd: ["LXD", "security.devlxd"],
};

function transportAt(host: Host, path: string): LxdTransport {
  return {
    name: host.path(path),
    product: SOCKETS.find(([name]) => name === posix.basename(posix.dirname(path)))?.[0],
    hasDirectory: () => host.files.kind(posix.dirname(path)) === "directory",
    connect: () => connectTo(host.files.holdSocket(path)),
  };
}

function boardOf(files: Host["files"]): (typeof BOARDS)[number] | undefined {
  const attribute = (name: string): string | undefined => {
    try {
      return files.read(`${DMI}/${name}`, MAX_ATTRIBUTE_BYTES)?.toString("utf8").trim();
    } catch {
      return undefined;
    }
  };
  const [vendor, name] = [attribute("board_vendor"), attribute("board_name")];
  return BOARDS.find((each) => each[1] === vendor && each[2] === name);
}
