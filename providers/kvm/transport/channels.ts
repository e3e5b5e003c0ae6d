import { basename } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import { bootId } from "../../../src/base/host/boot-id.js";
import { parseChannel, type VsockChannel } from "../../../src/base/host/channel.js";
import type { Host } from "../../../src/base/host/host.js";
import { UnixStream } from "../../../src/base/host/unix-stream.js";
import type { ShareableTransport } from "../../../src/mdata/client/client.js";
import type { Connection, ConnectionEvents, TakenLine } from "../../../src/mdata/client/transport.js";
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

/**
 * Takes a channel apart as the user names it.
 * @throws PvbusError `ERR_NOT_SUPPORTED` naming the forms there are, `ERR_UNAVAILABLE` for a path that is too long
 */
export function namedTransport(host: Host, text: string): ShareableTransport {
  const channel = parseChannel(text, CHANNELS, host);
  if (channel.kind === "vsock") return vsockTransport(host, text, channel);
  const { path } = channel;
  if (channel.kind === "unix") return unixTransport(host, text, path);
  if (channel.kind === "serial") return serialTransport(text, { host, path, isNamed: true });
  const find = (): string => (path.includes("/") ? path : portNamed(host, path));
  return portTransport(host, text, () => ({ host, path: find(), isNamed: true }));
}

/**
 * Finds the channel that this machine has: the port of that name, the socket of a zone, or the second serial port where the
 * firmware says that SmartOS is the host. No other serial port is looked at, it may be somebody's modem.
 * @returns undefined when there is none
 */
export function findTransport(host: Host, portName: string): ShareableTransport | undefined {
  const port = portPath(host, portName);
  if (port !== undefined)
    return portTransport(host, `port:${portName}`, () => ({ host, path: port, isNamed: false }));
  const socket = ZONE_SOCKETS.find((path) => host.files.kind(path) !== undefined);
  if (socket !== undefined) return unixTransport(host, `unix:${socket}`, socket);
  const serial = SERIAL[host.platform];
  if (serial === undefined || host.files.kind(serial) === undefined) return undefined;
  return shortText(host, PRODUCT).startsWith("SmartDC")
    ? serialTransport(`serial:${serial}`, { host, path: serial, isNamed: false })
    : undefined;
}

/** Returns the names of all virtio-serial ports of this machine. */
export function portNames(host: Host): string[] {
  return ports(host).map((port) => shortText(host, `${PORT_NAMES}/${port}/name`));
}

/** @param find returns the port's device, which may come and go */
function portTransport(host: Host, name: string, find: () => Device): ShareableTransport {
  return lineTransport(host, name, find, (device, { openPort }, events) => openPort(device, events));
}

function serialTransport(name: string, device: Device): ShareableTransport {
  const find = (): Device => device;
  return lineTransport(device.host, name, find, (at, { openSerial }, events) => openSerial(at, events));
}

function lineTransport(
  host: Host,
  name: string,
  find: () => Device,
  opener: (
    device: Device,
    devices: typeof import("./devices.js"),
    events: ConnectionEvents,
  ) => Promise<Connection | TakenLine>,
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
      return openOrJoin(socket(), () => opener(device, devices, events), events, call);
    },
  };
}

function unixTransport(host: Host, name: string, path: string): ShareableTransport {
  return {
    name,
    isShared: false,
    boot: () => bootId(host),
    open: (events, call) =>
      UnixStream.connect(() => host.files.holdSocket(path), { name, advice: ADVICE, ...events }, call),
  };
}

function vsockTransport(host: Host, name: string, address: VsockChannel): ShareableTransport {
  return {
    name,
    isShared: false,
    boot: () => bootId(host),
    open: async (events, call) => (await import("./devices.js")).openVsock(name, address, events, call),
  };
}

function portNamed(host: Host, name: string): string {
  const path = portPath(host, name);
  if (path !== undefined) return path;
  const known = portNames(host).join(", ") || "none";
  throw pvbusError("ERR_UNAVAILABLE", `this machine has no virtio-serial port ${name}; it has: ${known}`);
}

function portPath(host: Host, name: string): string | undefined {
  const port = ports(host).find((each) => shortText(host, `${PORT_NAMES}/${each}/name`) === name);
  return port === undefined ? undefined : `/dev/${port}`;
}

function ports(host: Host): string[] {
  return host.files.names(PORT_NAMES);
}

/** Returns a short text file of the kernel; empty when it is not there, or is no file. */
function shortText(host: Host, absolute: string): string {
  return host.files.read(absolute, MAX_TEXT_BYTES)?.toString("utf8").trim() ?? "";
}
