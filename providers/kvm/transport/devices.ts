import { closeSync, constants, fstatSync } from "node:fs";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { FOUND_DEVICE_ADVICE } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import type { Connection, ConnectionEvents, TakenLine } from "../../../src/mdata/client/transport.js";
import {
  DeviceStream,
  type DeviceStreamOptions,
  openDevice,
} from "../../../src/native/posix/device-stream.js";
import { type FileLock, holderOf, LockTurns } from "../../../src/native/posix/file-lock.js";
import { makeRaw } from "../../../src/native/posix/terminal.js";
import { connectVsock } from "../../../src/native/posix/vsock.js";

/** Most bytes of one read: a virtio port returns 32 KiB at once. */
const BUFFER_BYTES = 64 * 1024;

export interface Device {
  readonly host: Host;
  readonly path: string;
  /** Whether the user named this very device. */
  readonly isNamed: boolean;
}

const DEVICE_ADVICE = { EINVAL: "there is no device behind that name", EXDEV: FOUND_DEVICE_ADVICE };
const PORT_ADVICE = {
  ...DEVICE_ADVICE,
  EBUSY: "another program has it open; a port takes one at a time",
  EACCES: "the port is root's; run as root or have a udev rule give it to a group",
  ENOENT: "the host gives this machine no such port",
  ENXIO: "it is a console, no port for programs; choose another one",
};
const SERIAL_ADVICE = {
  ...DEVICE_ADVICE,
  EACCES: "run as root, or join the group that owns the device (dialout)",
  EIO: "there is no serial port behind that name; have the host add one",
};

/** Opens a virtio-serial port; with its host end closed the connection ends at once. */
export async function openPort(device: Device, events: ConnectionEvents): Promise<Connection> {
  const name = device.host.path(device.path);
  return openDevice(name, {
    ...streamOptions(name, events),
    open: (flags) => opened(device, flags),
    advice: PORT_ADVICE,
  });
}

export async function openVsock(
  name: string,
  address: { readonly cid: number; readonly port: number },
  events: ConnectionEvents,
  call: Call,
): Promise<Connection> {
  const { signal, remainingMs: timeoutMs } = call;
  return connectVsock({ ...address, ...streamOptions(name, events), signal, timeoutMs });
}

/**
 * Opens a serial port: locked as the other clients of the metadata protocol lock it (a record lock on the whole device), and in
 * raw mode, without which the terminal driver would send the host its own words back.
 */
export async function openSerial(device: Device, events: ConnectionEvents): Promise<Connection | TakenLine> {
  const path = device.host.path(device.path);
  let fd: number;
  try {
    fd = opened(device, constants.O_RDWR);
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot open ${path}`, advice: SERIAL_ADVICE });
  }
  try {
    const line = { fd, path, turns: new LockTurns(`device ${fstatSync(fd).rdev}`), events };
    const lock = line.turns.try(fd, LOCK);
    return lock === undefined ? takenLine(line) : lockedLine(line, lock);
  } catch (error) {
    closeSync(fd);
    throw unusable(path, error);
  }
}

interface SerialLine {
  readonly fd: number;
  readonly path: string;
  readonly turns: LockTurns;
  readonly events: ConnectionEvents;
}

/** The lock is that of an open file, since one of the process would go with any descriptor of the device that is closed. */
const LOCK = { mode: "exclusive", flock: false } as const;

/** An open line whose lock is somebody else's. */
function takenLine(line: SerialLine): TakenLine {
  const { fd, path, turns } = line;
  const busy = (): PvbusError =>
    pvbusError("ERR_BUSY", `${path} is in use by ${holderOf(fd, LOCK)}; wait for that program to end`);
  return {
    busy,
    wait: async (call) => {
      try {
        return lockedLine(line, await turns.wait(fd, { ...LOCK, call }));
      } catch (error) {
        const isLate = PvbusError.is(error) && error.code === "ERR_TIMEOUT";
        const why = isLate ? busy() : unusable(path, error);
        closeSync(fd);
        throw why;
      }
    },
  };
}

function lockedLine({ fd, path, events }: SerialLine, lock: FileLock): Connection {
  try {
    makeRaw(fd);
  } catch (error) {
    lock.release();
    throw error;
  }
  const stream = new DeviceStream(fd, streamOptions(path, events));
  return {
    write: (data, during) => stream.write(data, during),
    ref: () => stream.ref(),
    unref: () => stream.unref(),
    close: () => {
      lock.release();
      return stream.close();
    },
  };
}

function unusable(path: string, error: unknown): unknown {
  return fromSystemError(error, { doing: `cannot use ${path}`, advice: SERIAL_ADVICE });
}

function opened({ host, path, isNamed }: Device, flags: number): number {
  return host.files.open(path, { flags, kind: "device", isNamed });
}

function streamOptions(name: string, { onData, onEnd }: ConnectionEvents): DeviceStreamOptions {
  return { name, bufferBytes: BUFFER_BYTES, onData, onEnd };
}
