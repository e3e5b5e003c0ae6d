import { basename } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import type { Host } from "../../../src/base/host/host.js";
import { isBootId } from "../../../src/mdata/request.js";
import type { DevicePlace } from "./device-links.js";
import type { Endpoint, Link, LinkEvents, SharingPlace, TakenLine } from "./link.js";

/** Where Linux names the virtio-serial ports; udev's links in /dev/virtio-ports need not be there. */
const PORT_NAMES = "/sys/class/virtio-ports";
const BOOT = "/proc/sys/kernel/random/boot_id";
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
const MAX_U32 = 0xffff_ffff;
const FORMS = "unix:PATH, port:PATH (or a port's name), serial:PATH or vsock:CID:PORT";

/**
 * Takes a channel apart as the user names it.
 * @throws PvbusError `ERR_UNAVAILABLE` naming the forms there are
 */
export function parseChannel(host: Host, channel: string): Endpoint {
  const at = channel.indexOf(":");
  const scheme = channel.slice(0, at);
  const rest = channel.slice(at + 1);
  if (at > 0 && rest !== "") {
    if (scheme === "unix") return unixEndpoint(host, channel, rest);
    if (scheme === "port")
      return portEndpoint(host, channel, () => ({
        host,
        path: rest.includes("/") ? rest : named(host, rest),
        isNamed: true,
      }));
    if (scheme === "serial") return serialEndpoint(channel, { host, path: rest, isNamed: true });
    const [, cid, port] = /^(\d{1,10}):(\d{1,10})$/.exec(rest) ?? [];
    if (scheme === "vsock" && Number(cid) <= MAX_U32 && Number(port) <= MAX_U32)
      return vsockEndpoint(channel, Number(cid), Number(port));
  }
  throw pvbusError("ERR_UNAVAILABLE", `KVM has no channel "${channel.slice(0, 200)}"; name one as ${FORMS}`);
}

/**
 * Finds the channel that this machine has: the port of that name, the socket of a zone, or the second serial port where the
 * firmware says that SmartOS is the host. No other serial port is looked at, it may be somebody's modem.
 * @returns undefined when there is none
 */
export function findChannel(host: Host, portName: string): Endpoint | undefined {
  const port = portPath(host, portName);
  if (port !== undefined)
    return portEndpoint(host, `port:${portName}`, () => ({ host, path: port, isNamed: false }));
  const socket = ZONE_SOCKETS.find((path) => host.files.kind(path) !== undefined);
  if (socket !== undefined) return unixEndpoint(host, `unix:${socket}`, socket);
  const serial = SERIAL[host.platform];
  if (serial === undefined || host.files.kind(serial) === undefined) return undefined;
  return shortText(host, PRODUCT).startsWith("SmartDC")
    ? serialEndpoint(`serial:${serial}`, { host, path: serial, isNamed: false })
    : undefined;
}

/** Returns the names of all virtio-serial ports of this machine. */
export function portNames(host: Host): string[] {
  return ports(host).map((port) => shortText(host, `${PORT_NAMES}/${port}/name`));
}

/** @param find gives the port's device, which may come and go */
function portEndpoint(host: Host, name: string, find: () => DevicePlace): Endpoint {
  return lineEndpoint(host, name, find, (place, links, events) => links.openPort(place, events));
}

function serialEndpoint(name: string, place: DevicePlace): Endpoint {
  return lineEndpoint(
    place.host,
    name,
    () => place,
    (at, links, events) => links.openSerial(at, events),
  );
}

type DeviceLinks = typeof import("./device-links.js");

function lineEndpoint(
  host: Host,
  name: string,
  find: () => DevicePlace,
  opener: (place: DevicePlace, links: DeviceLinks, events: LinkEvents) => Promise<Link | TakenLine>,
): Endpoint {
  const run = host.platform === "linux" ? "/run" : "/var/run";
  const sharing = (): SharingPlace => ({
    files: host.files,
    directory: `${run}/pvbus/lines`,
    name: `${basename(find().path)}.sock`,
  });
  const open: Endpoint["open"] = async (events, call) => {
    const [links, { openOrJoin }] = await Promise.all([
      import("./device-links.js"),
      import("./shared-line.js"),
    ]);
    const place = find();
    return openOrJoin(sharing(), () => opener(place, links, events), events, call);
  };
  return { name, isShared: true, sharing, boot: () => bootId(host), open };
}

/** Returns Linux' id of this boot; undefined elsewhere, and for what is none. */
function bootId(host: Host): string | undefined {
  const text = shortText(host, BOOT);
  return isBootId(text) ? text : undefined;
}

function unixEndpoint(host: Host, name: string, path: string): Endpoint {
  const open: Endpoint["open"] = async (events, call) =>
    (await import("./unix-link.js")).openUnix(name, () => host.files.holdSocket(path), events, call);
  return { name, isShared: false, open };
}

function vsockEndpoint(name: string, cid: number, port: number): Endpoint {
  const open: Endpoint["open"] = async (events, call) =>
    (await import("./device-links.js")).openVsock(name, { cid, port }, events, call);
  return { name, isShared: false, open };
}

function named(host: Host, name: string): string {
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
