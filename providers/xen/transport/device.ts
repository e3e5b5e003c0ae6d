import { release } from "node:os";
import { Call } from "../../../src/base/flow/call.js";
import { FOUND_DEVICE_ADVICE } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import type { DeviceStream, OpenDeviceOptions } from "../../../src/native/posix/device-stream.js";
import { HEADER_BYTES, XENSTORE_PAYLOAD_MAX } from "../protocol/wire.js";
import type { StreamEvents, StreamPurpose, Transport, TransportStream } from "./transport.js";

/** Opens a device; stands in for the kernel in tests. */
export type OpenDevice = (
  path: string,
  options: OpenDeviceOptions,
) => Pick<DeviceStream, "write" | "ref" | "unref" | "close">;

export interface DeviceTransportOptions {
  /** The machine; default: this one. */
  readonly host?: Pick<Host, "files" | "path"> | undefined;
  /** Whether the user named this very device. Default false. */
  readonly isNamed?: boolean | undefined;
  readonly open?: OpenDevice | undefined;
  /** Milliseconds after which an open file whose answer does not come is given up; default 10 000. */
  readonly overdueMs?: number | undefined;
  /** Release of the kernel, `6.1.0-18-amd64`. */
  readonly release?: string | undefined;
}

/** The kernels collect a message, header included, in a buffer of that size. */
const DEVICE_BUFFER = 4096;
/** Open files for requests: each takes one at a time, the kernel sends them on together. */
const CONNECTIONS = 4;
const OVERDUE_MS = 10_000;
/** Longest time that a driver may hold a write. */
const WRITE_MS = 30_000;
/** Linux 4.11 took the wait for the daemon's answer out of write(2), but for WATCH and UNWATCH. */
const QUEUING_LINUX: readonly [number, number] = [4, 11];

const ADVICE: Readonly<Record<string, string>> = {
  EXDEV: FOUND_DEVICE_ADVICE,
  EINVAL: "it is no device; name the daemon's socket with a channel unix:PATH",
  ENOENT:
    "the kernel has no connection to XenStore; load the driver with modprobe xenfs, or see whether this is a Xen guest",
  ENXIO: "the kernel has no connection to XenStore; see whether this is a Xen guest",
  ENODEV: "the kernel has no connection to XenStore; see whether this is a Xen guest",
};

/**
 * The kernel's device (Linux drivers/xen/xenbus/xenbus_dev_frontend.c, FreeBSD sys/dev/xen/xenstore/xenstore_dev.c): one
 * message for each write(2), one request under way for each open file, since the next write may overwrite it. Watches have
 * an open file of their own, whose writes wait for the daemon.
 */
export class DeviceTransport implements Transport {
  readonly name: string;
  readonly connections = CONNECTIONS;
  readonly separateWatches = true;
  readonly window = 1;
  readonly maxRequest = DEVICE_BUFFER - HEADER_BYTES;
  readonly maxReply = XENSTORE_PAYLOAD_MAX;
  readonly overdueMs: number;
  readonly privileged = false;
  readonly #open: OpenDevice | undefined;
  readonly #descriptor: ((flags: number) => number) | undefined;
  readonly #linux: boolean;
  /** Whether write(2) leaves the waiting to the kernel. */
  readonly #queues: boolean;

  /** @param path the device's on the machine */
  constructor(path: string, platform: NodeJS.Platform, options: DeviceTransportOptions = {}) {
    const { host, isNamed } = options;
    this.name = host?.path(path) ?? path;
    // The kernel's file system of older systems has it as a file.
    this.#descriptor =
      host && ((flags) => host.files.open(path, { flags, kind: ["device", "file"], isNamed }));
    this.overdueMs = options.overdueMs ?? OVERDUE_MS;
    this.#open = options.open;
    this.#linux = platform === "linux";
    this.#queues = this.#linux && atLeast(options.release ?? release(), QUEUING_LINUX);
  }

  async connect(
    { onData, onDown }: StreamEvents,
    call: Call,
    purpose: StreamPurpose,
  ): Promise<TransportStream> {
    const open = this.#open ?? (await import("../../../src/native/posix/device-stream.js")).openDevice;
    call.check(`the opening of ${this.name}`);
    const stream = open(this.name, {
      name: this.name,
      open: this.#descriptor,
      bufferBytes: HEADER_BYTES + XENSTORE_PAYLOAD_MAX,
      writes: this.#queues && purpose === "requests" ? "direct" : "thread",
      framing: "message",
      // FreeBSD's read(2) waits in spite of O_NONBLOCK: it must be asked for first.
      soleReader: this.#linux,
      onData,
      onEnd: onDown,
      advice: ADVICE,
    });
    stream.unref();
    return {
      write: (bytes) => stream.write(bytes, new Call({ timeoutMs: WRITE_MS })),
      ref: () => stream.ref(),
      unref: () => stream.unref(),
      close: () => stream.close(),
    };
  }
}

function atLeast(found: string, [major, minor]: readonly [number, number]): boolean {
  const [, first = "0", second = "0"] = /^(\d+)\.(\d+)/.exec(found) ?? [];
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}
