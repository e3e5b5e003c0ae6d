import type { Socket } from "node:net";
import { PvbusError, type PvbusErrorCode } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { type HostFiles, hostFiles } from "../../../src/base/host/files.js";
import { connectTo } from "../../../src/base/host/socket.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import type { DeviceStreamOptions } from "../../../src/native/posix/device-stream.js";
import type { VsockOptions } from "../../../src/native/posix/vsock.js";

/** What a stream tells its owner; nothing more behind `onEnd`. */
export type LinkEvents = Pick<DeviceStreamOptions, "onData" | "onEnd">;

/** An open stream to the host. */
export interface Link {
  /** Writes all of the bytes. */
  write(bytes: Uint8Array, call: Call): Promise<void>;
  /** Keeps the process alive. */
  ref(): void;
  /** Lets the process end. */
  unref(): void;
  /** Closes it; no event comes any more. May be called twice. */
  close(): Promise<void>;
}

/** A place where the host listens. */
export interface LinkSource {
  /** Names it in messages. */
  readonly name: string;
  /** Whether the last connection came from a privileged port; undefined where there is no such thing. */
  readonly privileged: boolean | undefined;
  /** Connects. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, `ERR_TIMEOUT`, `ERR_ABORTED` */
  connect(events: LinkEvents, call: Call): Promise<Link>;
}

/** VMware's own context, and its port for RPCI (open-vm-tools lib/include/vmci_defs.h). */
export const VMX_CID = 0;
/** Port of RPCI. */
export const GUESTRPC_RPCI_VSOCK_LISTEN_PORT = 976;

/** A host answers at once or not at all; the kernel itself would wait two seconds. */
const CONNECT_MS = 500;
const BUFFER_BYTES = 64 * 1024;
/** Own ports that prove a privileged program; the lower half is left to services of fixed ports. */
const PRIVILEGED_PORTS = { first: 512, count: 512 };
/** The host resets where it has not let go of the last connection of that port pair. */
const MOST_RESETS = 8;
const MOST_NO_BUFFERS = 5;

/** Whether the host is to know that a privileged program speaks. */
export type Privilege = "prefer" | "require" | "never";

const CODES: Readonly<Record<string, PvbusErrorCode>> = {
  ECONNREFUSED: "ERR_UNAVAILABLE",
  EPIPE: "ERR_DISCONNECTED",
};
const ADVICE = { default: "see that the simulated host listens there, and that you may use its socket" };

/** The host's vsock, from a privileged port where this program may have one. */
export class VsockSource implements LinkSource {
  readonly #cid: number;
  readonly #port: number;
  readonly #privilege: Privilege;
  readonly #connect: (options: VsockOptions) => Promise<Link>;
  #privileged: boolean | undefined;

  /**
   * @param privilege `require` connects from a privileged port or not at all
   * @param connect stands in for the kernel
   */
  constructor(cid: number, port: number, privilege: Privilege, connect = connectByKernel) {
    this.#connect = connect;
    this.#cid = cid;
    this.#port = port;
    this.#privilege = privilege;
  }

  get name(): string {
    const from = { true: " from a privileged port", false: " without privilege", undefined: "" };
    return `vsock:${this.#cid}:${this.#port}${from[`${this.#privileged}`]}`;
  }

  get privileged(): boolean | undefined {
    return this.#privileged;
  }

  async connect(events: LinkEvents, call: Call): Promise<Link> {
    if (this.#privilege !== "never") {
      try {
        const link = await this.#dial(events, call, true);
        this.#privileged = true;
        return link;
      } catch (error) {
        // Only the refusal of the port itself says that this program has no privilege.
        if (this.#privilege === "require" || failureOf(error) !== "bind EACCES") throw error;
      }
    }
    const link = await this.#dial(events, call, false);
    this.#privileged = false;
    return link;
  }

  async #dial(events: LinkEvents, call: Call, privileged: boolean): Promise<Link> {
    const { first, count } = PRIVILEGED_PORTS;
    let step = Math.floor(Math.random() * count);
    let resets = 0;
    let noBuffers = 0;
    for (let taken = 0; ; ) {
      call.check(`the connection to ${this.name}`);
      try {
        return await this.#connect({
          ...events,
          cid: this.#cid,
          port: this.#port,
          localPort: privileged ? first + (step % count) : undefined,
          bufferBytes: BUFFER_BYTES,
          signal: call.signal,
          timeoutMs: Math.min(CONNECT_MS, call.remainingMs),
        });
      } catch (error) {
        const failure = failureOf(error);
        // Downwards, as the vendor's tools go.
        step += count - 1;
        if (failure === "bind EADDRINUSE" && ++taken < count) continue;
        if (failure === "connect ECONNRESET" && ++resets < MOST_RESETS) continue;
        if (failure !== "connect ENOBUFS" || ++noBuffers > MOST_NO_BUFFERS) throw error;
        await call.sleep(1, `the connection to ${this.name}`);
      }
    }
  }
}

async function connectByKernel(options: VsockOptions): Promise<Link> {
  return (await import("../../../src/native/posix/vsock.js")).connectVsock(options);
}

function failureOf(error: unknown): string | undefined {
  if (!PvbusError.is(error) || !isSystemError(error.cause)) return undefined;
  return `${error.cause.syscall} ${error.cause.code}`;
}

/** A UNIX socket that speaks as the host does: a simulator's. */
export class SocketSource implements LinkSource {
  readonly name: string;
  readonly privileged = undefined;
  readonly #path: string;
  readonly #files: HostFiles;

  /**
   * @param path where the socket is on the machine
   * @param files the machine's; default: this one's
   */
  constructor(name: string, path: string, files = hostFiles(undefined)) {
    this.name = name;
    this.#path = path;
    this.#files = files;
  }

  async connect({ onData, onEnd }: LinkEvents, call: Call): Promise<Link> {
    const { name } = this;
    const socket = this.#begin();
    let closed = false;
    let failure: Error | undefined;
    const close = async (): Promise<void> => {
      closed = true;
      socket.destroy();
    };
    try {
      const open = new Promise<void>((resolve, reject) => {
        socket.once("connect", resolve);
        socket.on("error", (error) => {
          failure = error;
          reject(error);
        });
      });
      await call.within(open, `the connection to ${name}`);
    } catch (error) {
      await close();
      throw this.#failed(error);
    }
    socket.on("data", (chunk: Buffer) => {
      if (!closed) onData(chunk);
    });
    socket.once("close", () => {
      if (!closed) onEnd(failure);
    });
    const write = (bytes: Uint8Array, during: Call): Promise<void> => {
      const written = new Promise<void>((resolve, reject) => {
        socket.write(bytes, (error) => (error ? reject(error) : resolve()));
      });
      return during.within(written, `${name} to take what is written`);
    };
    return { write, close, ref: () => void socket.ref(), unref: () => void socket.unref() };
  }

  #begin(): Socket {
    try {
      return connectTo(this.#files.holdSocket(this.#path));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): unknown {
    return fromSystemError(error, { doing: `cannot connect to ${this.name}`, codes: CODES, advice: ADVICE });
  }
}
