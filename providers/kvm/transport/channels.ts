import { basename } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import { bootId } from "../../../src/base/host/boot-id.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import type { Host } from "../../../src/base/host/host.js";
import type { ShareableTransport } from "../../../src/mdata/client/client.js";
import type { Device } from "./devices.js";
import type { SharedSocket } from "./join-line.js";

/** Where Linux names the virtio-serial ports; udev's links in /dev/virtio-ports need not be there. */
const PORT_NAMES = "/sys/class/virtio-ports";
const PRODUCT = "/sys/class/dmi/id/product_name";
/** Sockets of the metadata service in zones: lx-branded, today's and older ones (mdata-client plat/). */
const ZONE_SOCKETS = [
  "/native/.zonecontrol/metadata.sock",
  "/.zonecontrol/metadata.sock",
  "/var/run/smartdc/metadata.sock",
];
/** Second serial port, where SmartOS has the service in a machine of its own. */
const SERIAL: Partial<Record<NodeJS.Platform, string>> = {
  linux: "/dev/ttyS1",
  freebsd: "/dev/cuau1",
  netbsd: "/dev/tty01",
  openbsd: "/dev/cua01",
};
/** Longest name of a port or product that means anything here. */
const MAX_TEXT_BYTES = 4096;
const CHANNELS = {
  of: "KVM",
  kinds: { unix: true, port: "port:PATH (or a port's name)", serial: true, vsock: true },
} as const;
const ADVICE = {
  ENOENT: "nobody serves there; start the host side or correct the path",
  ECONNREFUSED: "nobody serves there any more; start the host side",
};

/** @throws PvbusError `ERR_NOT_SUPPORTED` naming the forms there are, `ERR_UNAVAILABLE` for a path that is too long */
export function namedTransport(host: Host, text: string): ShareableTransport {
  const channel = parseChannel(text, CHANNELS, host);
  if (channel.kind === "vsock") {
    return {
      name: text,
      isShared: false,
      boot: () => bootId(host),
      open: async (events, call) => (await import("./devices.js")).openVsock(text, channel, events, call),
    };
  }
  const { path } = channel;
  if (channel.kind === "unix") return unixTransport(host, text, path);
  const isPath = channel.kind === "serial" || path.includes("/");
  const find = (): string => (isPath ? path : portNamed(host, path));
  return lineTransport(host, text, channel.kind, () => ({ host, path: find(), isNamed: true }));
}

/**
 * Finds the port of that name, the socket of a zone, or the second serial port where the firmware says that SmartOS is the host. No
 * other serial port is looked at, it may be somebody's modem.
 */
export function findTransport(host: Host, portName: string): ShareableTransport | undefined {
  const port = portPath(host, portName);
  if (port !== undefined)
    return lineTransport(host, `port:${portName}`, "port", () => ({ host, path: port, isNamed: false }));
  const socket = ZONE_SOCKETS.find((path) => host.files.kind(path) !== undefined);
  if (socket !== undefined) return unixTransport(host, `unix:${socket}`, socket);
  const serial = SERIAL[host.platform];
  if (serial === undefined || host.files.kind(serial) === undefined) return undefined;
  if (!shortText(host, PRODUCT).startsWith("SmartDC")) return undefined;
  return lineTransport(host, `serial:${serial}`, "serial", () => ({ host, path: serial, isNamed: false }));
}

export function portNames(host: Host): string[] {
  return host.files.names(PORT_NAMES).map((port) => nameOf(host, port));
}

/** @param find returns the device, which may come and go */
function lineTransport(
  host: Host,
  name: string,
  kind: "port" | "serial",
  find: () => Device,
): ShareableTransport {
  const run = host.platform === "linux" ? "/run" : "/var/run";
  const socket = (): SharedSocket => ({
    files: host.files,
    directory: `${run}/pvbus/lines`,
    name: `${basename(find().path)}.sock`,
  });
  return {
    name,
    isShared: true,
    share: async (session, maxLineBytes) =>
      new (await import("./shared-line.js")).SharedLine(socket(), session, maxLineBytes),
    boot: () => bootId(host),
    async open(events, call) {
      const [devices, { openOrJoin }] = await Promise.all([import("./devices.js"), import("./join-line.js")]);
      const device = find();
      const open = kind === "port" ? devices.openPort : devices.openSerial;
      return openOrJoin(socket(), () => open(device, events), events, call);
    },
  };
}

function unixTransport(host: Host, name: string, path: string): ShareableTransport {
  return {
    name,
    isShared: false,
    boot: () => bootId(host),
    open: async (events, call) => {
      const { UnixStream } = await import("../../../src/base/host/unix-stream.js");
      return UnixStream.connect(() => host.files.holdSocket(path), { name, advice: ADVICE, ...events }, call);
    },
  };
}

function portNamed(host: Host, name: string): string {
  const path = portPath(host, name);
  if (path !== undefined) return path;
  const known = portNames(host).join(", ") || "none";
  throw pvbusError("ERR_UNAVAILABLE", `this machine has no virtio-serial port ${name}; it has: ${known}`);
}

function portPath(host: Host, name: string): string | undefined {
  const port = host.files.names(PORT_NAMES).find((each) => nameOf(host, each) === name);
  return port === undefined ? undefined : `/dev/${port}`;
}

function nameOf(host: Host, port: string): string {
  return shortText(host, `${PORT_NAMES}/${port}/name`);
}

/** Returns a short text file of the kernel; empty when it is not there, or is no file. */
function shortText(host: Host, absolute: string): string {
  return host.files.read(absolute, MAX_TEXT_BYTES)?.toString("utf8").trim() ?? "";
}
