import { join } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import type { Host } from "../../../src/base/host/host.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import type { StoreTarget } from "../../../src/contract/provider.js";
import type { Token } from "../../../src/contract/tokens.js";
import type { WindowsDevice } from "../../../src/native/windows/device.js";
import { DeviceTransport } from "./device.js";
import { SocketTransport } from "./socket.js";
import type { DriverPlatform, Transport, XenStoreDriver } from "./transport.js";

/**
 * Finds the way to a XenStore daemon: the channel that the target names, else what the machine has.
 * @throws PvbusError `ERR_UNAVAILABLE` when there is none, `ERR_NOT_SUPPORTED` for a channel of another kind
 */
export type FindTransport = (host: Host, target: StoreTarget) => Transport;

/** Opens a driver that has an interface of its own. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION` */
export type OpenDriver = (platform: DriverPlatform) => Promise<XenStoreDriver>;

/** Token of the function that finds the way to a XenStore daemon. */
export const XEN_TRANSPORT: Token<FindTransport> = Symbol.for("pvbus.xen.Transport");
/** Token of the function that opens the driver of OpenBSD or Windows. */
export const XEN_DRIVER: Token<OpenDriver> = Symbol.for("pvbus.xen.Driver");

const CHANNELS = {
  of: "Xen",
  kinds: { unix: "unix:PATH of a daemon's socket", device: "device:PATH of a kernel's device" },
} as const;
/** Run directories that daemons are built with. */
const RUN_DIRECTORIES = ["/run/xenstored", "/var/run/xenstored"];

/** Devices that pass the daemon's messages on, the better one first (Xen tools/libs/store/xs.c). */
const DEVICES: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ["/dev/xen/xenbus", "/proc/xen/xenbus"],
  freebsd: ["/dev/xen/xenstore"],
  netbsd: ["/kern/xen/xenbus"],
};

/** Returns all paths of the machine where the daemon may be reached, in the order in which libxenstore tries them. */
function candidates({ env: { XENSTORED_PATH, XENSTORED_RUNDIR }, platform }: Host): readonly string[] {
  if (XENSTORED_PATH) return [XENSTORED_PATH];
  const directories = [...(XENSTORED_RUNDIR ? [XENSTORED_RUNDIR] : []), ...RUN_DIRECTORIES];
  return [...directories.map((each) => join(each, "socket")), ...(DEVICES[platform] ?? [])];
}

export function candidateNames(host: Host): string {
  return candidates(host)
    .map((path) => host.path(path))
    .join(", ");
}

/** Returns the first path where the daemon may be reached that is there; undefined when there is none. */
export function locateDaemon(host: Host): string | undefined {
  return candidates(host).find((path) => host.files.kind(path) !== undefined);
}

/** The {@link FindTransport} of this machine. */
export function transportOf(host: Host, { channel }: StoreTarget): Transport {
  if (channel !== undefined) {
    const { kind, path } = parseChannel(channel, CHANNELS, host);
    if (kind === "unix") return new SocketTransport(path, { host });
    return new DeviceTransport(path, host.platform, { host, isNamed: true });
  }
  const path = locateDaemon(host);
  if (path === undefined) {
    throw pvbusError(
      "ERR_UNAVAILABLE",
      `no way to XenStore: none of ${candidateNames(host)} is there; ${adviceFor(host)}`,
    );
  }
  if (host.files.kind(path) === "socket") return new SocketTransport(path, { host });
  return new DeviceTransport(path, host.platform, { host });
}

/** The {@link OpenDriver} of this machine. */
export async function openDriver(platform: DriverPlatform): Promise<XenStoreDriver> {
  if (platform === "openbsd") return new (await import("./openbsd-device.js")).OpenbsdDevice();
  const [{ XENIFACE_INTERFACE, XenifaceDriver }, { openWindowsDevice }] = await Promise.all([
    import("./xeniface.js"),
    import("../../../src/native/windows/device.js"),
  ]);
  let device: WindowsDevice | undefined;
  try {
    device = openWindowsDevice(XENIFACE_INTERFACE);
  } catch (error) {
    throw fromSystemError(error, {
      doing: "cannot open the XENIFACE driver",
      advice: { EACCES: "it is for administrators" },
    });
  }
  if (device !== undefined) return new XenifaceDriver(device);
  throw pvbusError(
    "ERR_UNAVAILABLE",
    "no XENIFACE device is here; install the Xen PV drivers for Windows (xenbus and xeniface)",
  );
}

function adviceFor({ platform }: Host): string {
  if (platform === "linux")
    return "load the driver with modprobe xen-privcmd xenfs, or name the socket with a channel unix:PATH";
  return "name the daemon's socket with a channel unix:PATH or XENSTORED_PATH";
}
