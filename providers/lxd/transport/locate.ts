import type { Host } from "../../../src/base/host/host.js";
import type { Located } from "../../../src/contract/manifest.js";
import type { Evidence } from "../../../src/contract/report.js";

/*
 * What shows a guest of LXD or Incus. It is looked at whenever a bus is opened, on every machine: nothing else is loaded for it.
 */

/** Whose guest API it is. */
export type Product = "incus" | "lxd";

/** The usual places. In a machine of Incus `/dev/lxd` is a link to `/dev/incus`: the first that is there is the one store. */
export const SOCKETS = [
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
