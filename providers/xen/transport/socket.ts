import type { Call } from "../../../src/base/flow/call.js";
import { hostFiles } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { UnixStream } from "../../../src/base/host/unix-stream.js";
import { XENSTORE_PAYLOAD_MAX } from "../protocol/wire.js";
import type { StreamEvents, Transport, TransportStream } from "./transport.js";

/** oxenstored sends listings of any length to a socket. */
const MAX_REPLY = 1 << 20;
/** Requests under way; the others wait here, where they can still be taken back. */
const WINDOW = 256;

const OVERDUE_MS = 10_000;
const LIVE: Pick<Host, "files" | "path"> = { files: hostFiles(undefined), path: (absolute) => absolute };

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: "start xenstored, or name its socket",
  ECONNREFUSED: "nobody listens there; start xenstored",
  default: "see that xenstored runs, and that you may use its socket",
};

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

  async connect({ onData, onDown }: StreamEvents, call: Call): Promise<TransportStream> {
    const stream = await UnixStream.connect(
      () => this.#host.files.holdSocket(this.#path),
      {
        name: this.name,
        doing: `cannot connect to XenStore at ${this.name}`,
        advice: ADVICE,
        reusesChunks: true,
        onData,
        onEnd: onDown,
      },
      call,
    );
    stream.unref();
    return {
      write: (bytes) => stream.send(bytes),
      ref: () => stream.ref(),
      unref: () => stream.unref(),
      close: () => stream.close(),
    };
  }
}
