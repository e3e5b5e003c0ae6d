import { PvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import { type HostFiles, hostFiles } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { UnixStream } from "../../../src/base/host/unix-stream.js";
import { ownEntry } from "../../../src/base/own.js";
import { isSystemError } from "../../../src/base/system-error.js";
import type { DeviceStreamOptions } from "../../../src/native/posix/device-stream.js";
import type { VsockOptions } from "../../../src/native/posix/vsock.js";

/** What a stream tells its owner; nothing more behind `onEnd`. */
export type StreamEvents = Pick<DeviceStreamOptions, "onData" | "onEnd">;

/** An open stream to the host. */
export type HostStream = Pick<UnixStream, "write" | "ref" | "unref" | "close">;

/** An address where the host listens. */
export interface StreamSource {
  /** Names it in messages. */
  readonly name: string;
  /** Whether the last connection came from a privileged port; undefined where there is no such thing. */
  readonly privileged: boolean | undefined;
  /** Connects. @throws PvbusError `ERR_UNAVAILABLE`, `ERR_PERMISSION`, `ERR_TIMEOUT`, `ERR_ABORTED` */
  connect(events: StreamEvents, call: Call): Promise<HostStream>;
}

/** VMware's own context, and its port for RPCI (open-vm-tools lib/include/vmci_defs.h). */
const VMX_CID = 0;
const GUESTRPC_RPCI_VSOCK_LISTEN_PORT = 976;

/** A host answers at once or not at all; the kernel itself would wait two seconds. */
const CONNECT_MS = 500;
const BUFFER_BYTES = 64 * 1024;
/** Own ports that prove a privileged program; the lower half is left to services of fixed ports. */
const PRIVILEGED_PORTS = { first: 512, count: 512 };
/** How often each failure may come: the host resets where it has not let go of the last connection of that port pair. */
const MOST_TIMES: Readonly<Record<string, number>> = {
  "bind EADDRINUSE": PRIVILEGED_PORTS.count,
  "connect ECONNRESET": 8,
  "connect ENOBUFS": 6,
};

/* Channels that the caller may name. */
const CHANNELS = { of: "VMware", kinds: { vsock: true, unix: true } } as const;
const ADVICE = { default: "see that the simulated host listens there, and that you may use its socket" };

/** Whether the host is to know that a privileged program speaks. */
export type Privilege = "prefer" | "require" | "never";

/** The host's vsock, from a privileged port where this program may have one. */
export class VsockSource implements StreamSource {
  readonly #cid: number;
  readonly #port: number;
  readonly #privilege: Privilege;
  readonly #connect: (options: VsockOptions) => Promise<HostStream>;
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

  async connect(events: StreamEvents, call: Call): Promise<HostStream> {
    if (this.#privilege !== "never") {
      try {
        const stream = await this.#dial(events, call, true);
        this.#privileged = true;
        return stream;
      } catch (error) {
        // Only the refusal of the port itself says that this program has no privilege.
        if (this.#privilege === "require" || failureOf(error) !== "bind EACCES") throw error;
      }
    }
    const stream = await this.#dial(events, call, false);
    this.#privileged = false;
    return stream;
  }

  async #dial(events: StreamEvents, call: Call, privileged: boolean): Promise<HostStream> {
    const { first, count } = PRIVILEGED_PORTS;
    let step = Math.floor(Math.random() * count);
    const times = new Map<string, number>();
    for (;;) {
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
        const failure = failureOf(error) ?? "";
        const time = (times.get(failure) ?? 0) + 1;
        if (time >= (ownEntry(MOST_TIMES, failure) ?? 0)) throw error;
        times.set(failure, time);
        // Downwards, as the vendor's tools go.
        step += count - 1;
        if (failure === "connect ENOBUFS") await call.sleep(1, `the connection to ${this.name}`);
      }
    }
  }
}

/** A UNIX socket that speaks as the host does: a simulator's. */
export class UnixSource implements StreamSource {
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

  connect(events: StreamEvents, call: Call): Promise<HostStream> {
    const hold = () => this.#files.holdSocket(this.#path);
    return UnixStream.connect(hold, { name: this.name, advice: ADVICE, ...events }, call);
  }
}

/**
 * Returns the address of a channel that the caller named: `vsock:CID:PORT` or `unix:PATH`, the path below the host's sysroot.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for anything else; the machine-code port is never opened by a name
 */
export function namedSource(name: string, host: Host, privilege: Privilege): StreamSource {
  const channel = parseChannel(name, CHANNELS, host);
  return channel.kind === "vsock"
    ? new VsockSource(channel.cid, channel.port, privilege)
    : new UnixSource(name, channel.path, host.files);
}

/** Returns the host's own vsock. */
export function hostVsock(privilege: Privilege): VsockSource {
  return new VsockSource(VMX_CID, GUESTRPC_RPCI_VSOCK_LISTEN_PORT, privilege);
}

const kernel = () => import("../../../src/native/posix/vsock.js");

/** Reports whether the kernel has VMware's vsock. @throws PvbusError `ERR_UNAVAILABLE` without native calls */
export async function hasVsock(): Promise<boolean> {
  return (await kernel()).hasVmciTransport();
}

async function connectByKernel(options: VsockOptions): Promise<HostStream> {
  return (await kernel()).connectVsock(options);
}

function failureOf(error: unknown): string | undefined {
  if (!PvbusError.is(error) || !isSystemError(error.cause)) return undefined;
  return `${error.cause.syscall} ${error.cause.code}`;
}
