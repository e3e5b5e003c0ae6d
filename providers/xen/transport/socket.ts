import type { IpcSocketConnectOpts, Socket } from "node:net";
import type { Call } from "../../../src/base/flow/call.js";
import { hostFiles } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { connectTo } from "../../../src/base/host/socket.js";
import type { HeldName } from "../../../src/base/host/tree.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { XENSTORE_PAYLOAD_MAX } from "../protocol/wire.js";
import type { StreamEvents, Transport, TransportStream } from "./transport.js";

/** What one read takes at most. */
const READ_BYTES = 64 * 1024;
/** oxenstored sends listings of any length to a socket. */
const MAX_REPLY = 1 << 20;
/** Requests under way; the others wait here, where they can still be taken back. */
const WINDOW = 256;

const OVERDUE_MS = 10_000;

const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 20;

const NOTHING = new Uint8Array(0);
const LIVE: Pick<Host, "files" | "path"> = { files: hostFiles(undefined), path: (absolute) => absolute };

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: "start xenstored, or name its socket",
  ECONNREFUSED: "nobody listens there; start xenstored",
  default: "see that xenstored runs, and that you may use its socket",
};

/** What may be different. */
export interface SocketTransportOptions {
  /** The machine; default: this one. */
  readonly host?: Pick<Host, "files" | "path"> | undefined;
  /** Milliseconds after which a connection that answers nothing is given up; default 10 000. */
  readonly overdueMs?: number | undefined;
}

/** The daemon's UNIX socket, as dom0 and driver domains have it: whoever connects is the controlling domain. */
export class SocketTransport implements Transport {
  readonly name: string;
  readonly connections = 1;
  readonly separateWatches = false;
  readonly window = WINDOW;
  readonly maxRequest = XENSTORE_PAYLOAD_MAX;
  readonly maxReply = MAX_REPLY;
  readonly overdueMs: number;
  readonly privileged = true;

  readonly #path: string;
  readonly #host: Pick<Host, "files" | "path">;

  /** @param path the socket's on the machine */
  constructor(path: string, { host = LIVE, overdueMs = OVERDUE_MS }: SocketTransportOptions = {}) {
    this.#path = path;
    this.#host = host;
    this.name = host.path(path);
    this.overdueMs = overdueMs;
  }

  async connect(events: StreamEvents, call: Call): Promise<TransportStream> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      let stream: SocketStream | undefined;
      try {
        stream = new SocketStream(this.#host.files.holdSocket(this.#path), events);
        await call.within(stream.connected, `the connection to ${this.name}`);
        return stream;
      } catch (error) {
        await stream?.close();
        if (!isSystemError(error) || error.code !== "EAGAIN") {
          throw fromSystemError(error, {
            doing: `cannot connect to XenStore at ${this.name}`,
            advice: ADVICE,
          });
        }
      }
      // The daemons let one client wait at a time; a blocking connect(2) would wait for its turn.
      await call.sleep(pause, `a turn to connect to ${this.name}`);
    }
  }
}

class SocketStream implements TransportStream {
  readonly connected: Promise<void>;
  readonly #socket: Socket;
  #closed = false;

  constructor(name: HeldName, { onData, onDown }: StreamEvents) {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    const callback = (bytes: number): boolean => {
      if (!this.#closed) onData(bytes === READ_BYTES ? buffer : buffer.subarray(0, bytes));
      return true;
    };
    // The types lack onread for paths, where it works as everywhere.
    const options = { onread: { buffer, callback } } as Omit<IpcSocketConnectOpts, "path">;
    const socket = connectTo(name, options);
    this.#socket = socket;
    this.connected = new Promise((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
    });
    this.connected.then(
      () => {
        let failure: Error | undefined;
        socket.on("error", (error) => {
          failure = error;
        });
        socket.once("end", () => socket.destroy());
        socket.once("close", () => {
          if (!this.#closed) onDown(failure);
        });
        socket.unref();
      },
      () => undefined,
    );
  }

  write(bytes: Buffer): Promise<void> | undefined {
    const socket = this.#socket;
    socket.write(bytes);
    // The system took all of it at once when nothing is left in the socket's own queue.
    if (socket.writableLength === 0) return undefined;
    return new Promise((resolve) => {
      socket.write(NOTHING, () => resolve());
    });
  }

  ref(): void {
    if (!this.#closed) this.#socket.ref();
  }

  unref(): void {
    if (!this.#closed) this.#socket.unref();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#socket.on("error", () => undefined);
    this.#socket.destroy();
  }
}
