import { closeSync, constants, fstatSync, openSync, type Stats, writeSync } from "node:fs";
import { pvbusError } from "../../../src/base/errors.js";
import type { Host } from "../../../src/base/host/host.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import { openPollable } from "../../../src/native/posix/pollable.js";
import { FREEBSD_KVP, type KvpLayout, LINUX_KVP } from "../protocol/messages.js";
import { missing } from "../transport/files/descriptor.js";
import { trustedOwners } from "../transport/files/open.js";

/** What a device reports. */
export interface KvpDeviceEvents {
  /**
   * Sees each message first, straight from the event: true when it is taken, `next` when it is done and the host may send the next
   * one. The bytes hold during the call; must not throw.
   */
  readonly tryMessage?: ((message: Buffer) => boolean | "next") | undefined;
  /** One whole message of the driver. */
  readonly onMessage: (message: Buffer) => void;
  /** No more will come: the driver went away, or reading failed. */
  readonly onEnd: (error: Error | undefined) => void;
}

/** The kernel's KVP device, open. */
export interface KvpDevice {
  /** Sends one whole message. @throws a system error: `EINVAL` when the driver waits for none any more */
  send(message: Uint8Array): void;
  /** Closes it: the driver forgets this daemon. To be called once. */
  close(): Promise<void>;
}

/** Opens the device. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_BUSY` while another daemon has it, `ERR_PERMISSION` */
export type OpenKvpDevice = (events: KvpDeviceEvents) => KvpDevice;

/** Where the driver's device is, and how it speaks. */
export interface KvpDeviceLocation {
  readonly path: string;
  readonly layout: KvpLayout;
  /** How long the driver waits for a reply before it answers the host by itself, in milliseconds. */
  readonly timeLimitMs: number;
}

/** The usual device of each platform that has one. */
export const KVP_DEVICES: Partial<Record<NodeJS.Platform, KvpDeviceLocation>> = {
  linux: { path: "/dev/vmbus/hv_kvp", layout: LINUX_KVP, timeLimitMs: 30_000 },
  freebsd: { path: "/dev/hv_kvp_dev", layout: FREEBSD_KVP, timeLimitMs: 5_000 },
};

const ADVICE = {
  ENOENT:
    "load the driver (modprobe hv_utils), and see whether the host offers data exchange to this machine",
  EBUSY: "another KVP daemon has it: stop it (systemctl stop hv-kvp-daemon.service), one at a time can serve",
  EACCES: "run as root: the device is root's alone",
};

/** A host that lists sends the next request as soon as it has the reply; whoever shares the thread waits that long at most. */
const LINGER_MS = 1;

/**
 * Opens the character device of hv_utils or hv_kvp. Reading waits by events, since a read of the Linux driver sleeps
 * even when non-blocking (drivers/hv/hv_utils_transport.c); writing never waits in the driver.
 */
export function openKvpDevice(
  host: Host,
  { path, layout }: KvpDeviceLocation,
  events: KvpDeviceEvents,
): KvpDevice {
  const fd = openDevice(host, path);
  try {
    const pollable = openPollable(fd, {
      // One byte more than the message makes FreeBSD's driver return what lies behind it.
      bufferBytes: layout.messageBytes,
      // The driver has one opener, and a message stays until it is read.
      soleReader: true,
      lingerMs: LINGER_MS,
      onRead: events.tryMessage,
      onData: events.onMessage,
      onEnd: events.onEnd,
    });
    return {
      send: (message) => {
        // At the position that FreeBSD's driver expects, which write(2) there does not name.
        const written =
          layout === FREEBSD_KVP ? writeSync(fd, message, 0, message.length, 0) : pollable.write(message);
        if (written < layout.messageBytes)
          throw pvbusError("ERR_PROTOCOL", `${path} took ${written} of ${message.length} bytes`);
      },
      close: async () => {
        await pollable.close();
        closeSync(fd);
      },
    };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Non-blocking: a FIFO under the device's name must not hang the open. */
const OPENING = constants.O_RDWR | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);

function openDevice(host: Host, path: string): number {
  let fd: number | undefined;
  try {
    const owners = trustedOwners(host);
    using held = host.sysroot === undefined ? undefined : host.files.hold(path);
    // Before it is opened: opening alone sets some devices going.
    if (held !== undefined) checkDevice(held.stats, path, owners);
    else if (host.sysroot !== undefined) throw missing(path);
    fd = openSync(held?.path ?? path, OPENING);
    checkDevice(fstatSync(fd), path, owners);
    return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw fromSystemError(error, { doing: `cannot open the KVP device: ${host.path(path)}`, advice: ADVICE });
  }
}

/** Whoever owns it is the host for us: what he says becomes pools and network settings. */
function checkDevice(stats: Stats, path: string, owners: ReadonlySet<number>): void {
  if (stats.isFIFO() || stats.isDirectory())
    throw pvbusError("ERR_UNAVAILABLE", `${path} is no KVP device; name another one with --device`);
  if (!owners.has(stats.uid)) {
    throw pvbusError(
      "ERR_PERMISSION",
      `refusing the KVP device ${path}: it belongs to user ${stats.uid}; find out who put it there`,
    );
  }
}
