import { PvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { isSystemError } from "../../../src/base/system-error.js";
import type { VsockOptions } from "../../../src/native/posix/vsock.js";
import type { HostStream, StreamEvents, StreamSource } from "./stream.js";

/** VMware's own context, and its port for RPCI (open-vm-tools lib/include/vmci_defs.h). */
const VMX_CID = 0;
const GUESTRPC_RPCI_VSOCK_LISTEN_PORT = 976;

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

/** Returns the host's own vsock. */
export function hostVsock(privilege: Privilege): VsockSource {
  return new VsockSource(VMX_CID, GUESTRPC_RPCI_VSOCK_LISTEN_PORT, privilege);
}

/** Reports whether the kernel has VMware's vsock. @throws PvbusError `ERR_UNAVAILABLE` without native calls */
export async function hasVsock(): Promise<boolean> {
  return (await import("../../../src/native/posix/vsock.js")).hasVmciTransport();
}

async function connectByKernel(options: VsockOptions): Promise<HostStream> {
  return (await import("../../../src/native/posix/vsock.js")).connectVsock(options);
}

function failureOf(error: unknown): string | undefined {
  if (!PvbusError.is(error) || !isSystemError(error.cause)) return undefined;
  return `${error.cause.syscall} ${error.cause.code}`;
}
