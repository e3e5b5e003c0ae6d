import { constants, openSync } from "node:fs";
import { type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import { Backoff } from "../../base/flow/backoff.js";
import { Call } from "../../base/flow/call.js";
import { SerialQueue } from "../../base/flow/queues.js";
import { fromSystemError } from "../../base/system-error.js";
import { callAsync } from "../ffi/async-call.js";
import { closeDescriptor, setNonBlocking } from "../ffi/descriptor.js";
import type { Libc, NativeFunction, NativeResult } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";
import { openPollable, type Pollable, type PollableOptions } from "./pollable.js";
import { whenReady } from "./ready.js";

/** Options of a {@link DeviceStream}: those of its reading side, and how it writes. */
export interface DeviceStreamOptions extends PollableOptions {
  /**
   * Where write(2) runs: `direct` (default) on this thread, for devices whose writes return at once, or `thread` on
   * libuv's pool, for devices that may keep the writer waiting in spite of O_NONBLOCK (`/dev/xen/xenbus`). At most two
   * such writes of the process run at a time; one that never returns delays the end of the process.
   */
  readonly writes?: "direct" | "thread" | undefined;
  /**
   * What a write that takes only a part means: `stream` (default) goes on with the rest, `message` is an error, since the
   * device takes one message per write(2).
   */
  readonly framing?: "stream" | "message" | undefined;
  readonly name?: string | undefined;
}

/** Options of {@link openDevice}. */
export interface OpenDeviceOptions extends DeviceStreamOptions {
  /** Flags of open(2) beside O_NONBLOCK, O_NOCTTY and O_CLOEXEC, which are always set; default O_RDWR. */
  readonly flags?: number | undefined;
  /** Opens it in place of open(2) with the path. */
  readonly open?: ((flags: number) => number) | undefined;
  /** What to do about a failed open, by errno; `default` serves the rest. */
  readonly advice?: Readonly<Record<string, string>> | undefined;
  /** Codes of a failed open that differ from the general table, by errno. */
  readonly codes?: Readonly<Record<string, PvbusErrorCode>> | undefined;
}

/** What the device's own errors of write(2) mean. */
const WRITE_CODES: Readonly<Record<string, PvbusErrorCode>> = {
  EBADF: "ERR_DISCONNECTED",
  ENODEV: "ERR_DISCONNECTED",
  ENXIO: "ERR_DISCONNECTED",
  ENOTCONN: "ERR_DISCONNECTED",
  ESHUTDOWN: "ERR_DISCONNECTED",
  EMSGSIZE: "ERR_VALUE_TOO_LONG",
  EINVAL: "ERR_PROTOCOL",
};

/** Pauses while the device says that it can take more, and then takes nothing (a virtio port whose host end is closed). */
const PAUSES = { firstMs: 1, longestMs: 100, jitter: 0 };

/**
 * An open device or socket: hands over what arrives, and writes whole messages in the order of the calls.
 *
 * The descriptor belongs to it and is closed with it; its open file is non-blocking.
 */
export class DeviceStream implements AsyncDisposable {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #name: string;
  readonly #write: NativeFunction;
  readonly #options: DeviceStreamOptions;
  readonly #pollable: Pollable;
  readonly #ending = new AbortController();
  readonly #queue = new SerialQueue();
  /** A write on a thread of the pool. */
  #inFlight: Promise<NativeResult> | undefined;
  /** Why nothing can be written any more though it is open. */
  #torn: string | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Takes over an open descriptor, also when it throws: then it is closed.
   * @throws as {@link openPollable}
   */
  constructor(fd: number, options: DeviceStreamOptions) {
    try {
      this.#libc = openLibc(options.koffi);
      this.#fd = fd;
      this.#name = options.name ?? `descriptor ${fd}`;
      this.#options = options;
      this.#write = this.#libc.function("intptr_t write(int, const void *, size_t)");
      setNonBlocking(this.#libc, fd);
      this.#pollable = openPollable(fd, options);
    } catch (error) {
      closeDescriptor(fd);
      throw error;
    }
  }

  /**
   * Writes all of the bytes, after those of earlier calls; with `message` framing in one write(2). Leave the bytes as they
   * are until it resolves. A direct write of a device that has room is done when this returns.
   *
   * A call that ends early while its write runs on a thread may still have been written. One that ends when a part of a
   * stream's bytes is written leaves the peer in the middle of a message: nothing can be written any more.
   * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_DISCONNECTED` when the peer, the device or this is closed;
   *   `ERR_PROTOCOL` and others for what the device refuses, the system error as the cause
   */
  write(data: Uint8Array, call: Call = new Call()): Promise<void> {
    const turn = this.#queue.run(call, this.#waiting, () => this.#send(data, call));
    // A direct write watches the call by itself.
    return this.#options.writes === "thread" ? call.within(turn, this.#waiting) : turn;
  }

  /** Keeps the process alive, as at the beginning; nothing after the end or {@link DeviceStream.close}. */
  ref(): void {
    this.#pollable.ref();
  }

  unref(): void {
    this.#pollable.unref();
  }

  /**
   * Stops reading and writing: no listener is called any more, waiting writes reject. May be called twice. Resolves when
   * the descriptor is closed, or as soon as the device lets go of a write that it keeps waiting on a thread.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #waiting(): string {
    return `${this.#name} to take what is written`;
  }

  async #close(): Promise<void> {
    this.#ending.abort();
    await this.#pollable.close();
    const close = (): void => closeDescriptor(this.#fd);
    // Its number must not go to another file while a thread may still use it.
    if (this.#inFlight === undefined) close();
    else this.#inFlight.then(close, close);
  }

  async #send(data: Uint8Array, call: Call): Promise<void> {
    call.check(this.#waiting);
    let rest = data;
    try {
      while (rest.length > 0) {
        this.#checkOpen();
        const taken = await this.#writeSome(rest, call);
        if (this.#options.framing === "message" && taken < rest.length)
          throw pvbusError(
            "ERR_PROTOCOL",
            `${this.#name} took ${taken} of the ${rest.length} bytes of a message; open it again`,
          );
        rest = rest.subarray(taken);
      }
    } catch (error) {
      if (rest.length < data.length) this.#torn = "an earlier message was written in part only";
      throw error;
    }
  }

  /** Writes once, waiting for room; returns how many bytes were taken, one at least. */
  async #writeSome(data: Uint8Array, call: Call): Promise<number> {
    let pauses: Backoff | undefined;
    for (;;) {
      const { rc, errno } = await this.#writeOnce(data);
      if (rc > 0) return rc;
      const name = rc === 0 ? "EAGAIN" : this.#libc.errnoName(errno);
      if (name === "EINTR") continue;
      if (name !== "EAGAIN")
        throw fromSystemError(this.#libc.systemError("write", errno), {
          doing: `cannot write to ${this.#name}`,
          codes: WRITE_CODES,
        });
      // There was room, and then there was none.
      await pauses?.sleep(call, this.#waiting);
      this.#checkOpen();
      const { mechanism } = this.#pollable;
      const [until, waitingFor] = [this.#ending.signal, this.#waiting];
      await whenReady(this.#libc, this.#fd, "writable", { call, until, waitingFor, mechanism });
      this.#checkOpen();
      pauses ??= new Backoff(PAUSES);
    }
  }

  #writeOnce(data: Uint8Array): NativeResult | Promise<NativeResult> {
    if (this.#options.writes !== "thread") return this.#libc.call(this.#write, this.#fd, data, data.length);
    const running = callAsync(this.#libc, this.#write, this.#fd, data, data.length).finally(() => {
      this.#inFlight = undefined;
    });
    this.#inFlight = running;
    return running;
  }

  #checkOpen(): void {
    const why = this.#ending.signal.aborted ? "it was closed here" : this.#torn;
    if (why === undefined) return;
    throw pvbusError("ERR_DISCONNECTED", `cannot write to ${this.#name}: ${why}; open it again`);
  }
}

/**
 * Opens a device, never waiting for a peer.
 * @throws PvbusError of the failed open (`ERR_PERMISSION`, `ERR_BUSY`, `ERR_UNAVAILABLE`, …) and as {@link DeviceStream}
 */
export function openDevice(path: string, options: OpenDeviceOptions): DeviceStream {
  const { flags = constants.O_RDWR, advice, codes, open = (wanted) => openSync(path, wanted) } = options;
  let fd: number;
  try {
    fd = open(flags | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot open ${path}`, advice, codes });
  }
  return new DeviceStream(fd, { name: path, ...options });
}
