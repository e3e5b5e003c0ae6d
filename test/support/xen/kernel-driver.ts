import { once } from "node:events";
import { connect, type Socket } from "node:net";
import {
  decodeStrings,
  encodeMessage,
  encodeStrings,
  MessageDecoder,
  XENSTORE_PAYLOAD_MAX,
  XS,
  type XsMessage,
} from "../../../providers/xen/protocol/wire.js";
import type { OpenDevice } from "../../../providers/xen/transport/device.js";
import { fromSystemError } from "../../../src/base/system-error.js";

/** Whose driver is simulated; `linux-4.4` answers WATCH with request id 0. */
export type Kernel = "linux" | "linux-4.4" | "freebsd";

type File = ReturnType<OpenDevice>;

/** The drivers' buffer, header included. */
const BUFFER = 4096;
/** What FreeBSD's driver passes on. */
const FREEBSD_TYPES: readonly number[] = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14];

/**
 * A guest kernel's XenStore driver on one connection to a real daemon: many open files, each with its own watches, and the
 * drivers' peculiarities. What a real driver would spoil in silence is noted in {@link KernelDriver.violations}.
 */
export class KernelDriver implements AsyncDisposable {
  /** What a client did that a driver takes badly. */
  readonly violations: string[] = [];
  /** Open files. */
  readonly files = new Set<OpenFile>();
  readonly #kernel: Kernel;
  readonly #ring: Socket;
  readonly #waiting = new Map<number, (reply: XsMessage) => void>();
  readonly #watches = new Map<string, { readonly file: OpenFile; readonly token: string }>();
  #ids = 0;

  private constructor(ring: Socket, kernel: Kernel) {
    this.#ring = ring;
    this.#kernel = kernel;
    const decoder = new MessageDecoder(
      XENSTORE_PAYLOAD_MAX,
      (type, requestId, transactionId, bytes, start, end) => {
        const message = { type, requestId, transactionId, payload: Buffer.from(bytes.subarray(start, end)) };
        if (type === XS.WATCH_EVENT) this.#event(message);
        else {
          this.#waiting.get(requestId)?.(message);
          this.#waiting.delete(requestId);
        }
      },
    );
    ring.on("data", (chunk: Buffer) => decoder.push(chunk));
  }

  /** @param path the guest's connection to the daemon */
  static async on(path: string, kernel: Kernel): Promise<KernelDriver> {
    const ring = connect(path);
    await once(ring, "connect");
    return new KernelDriver(ring, kernel);
  }

  /** Opens the device. */
  readonly open: OpenDevice = (_path, { onData, writes }) => {
    const file = new OpenFile(this, this.#kernel, onData, writes === "thread");
    this.files.add(file);
    return file;
  };

  /** Sends a request on and gives the daemon's answer. */
  ask(message: Omit<XsMessage, "requestId">): Promise<XsMessage> {
    const requestId = ++this.#ids;
    this.#ring.write(encodeMessage({ ...message, requestId }));
    return new Promise((resolve) => this.#waiting.set(requestId, resolve));
  }

  /** Registers a watch of a file under a token of the kernel's own; gives the daemon's error. */
  async watch(file: OpenFile, path: string, token: string): Promise<string | undefined> {
    const own = `k${++this.#ids}`;
    this.#watches.set(own, { file, token });
    const reply = await this.ask({ type: XS.WATCH, transactionId: 0, payload: encodeStrings(path, own) });
    if (reply.type !== XS.ERROR) return undefined;
    this.#watches.delete(own);
    return decodeStrings(reply.payload)[0];
  }

  /** Removes the watches of a file that have this token. */
  async unwatch(file: OpenFile, path: string, token: string): Promise<void> {
    for (const [own, watch] of this.#watches) {
      if (watch.file !== file || watch.token !== token) continue;
      this.#watches.delete(own);
      await this.ask({ type: XS.UNWATCH, transactionId: 0, payload: encodeStrings(path, own) });
    }
  }

  /** Resumes after a suspend: all watches fire once more. */
  async resume(): Promise<void> {
    for (const { file, token } of this.#watches.values()) file.event("data", token);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ring.destroy();
  }

  #event({ payload }: XsMessage): void {
    const [path = "", own = ""] = decodeStrings(payload);
    const watch = this.#watches.get(own);
    watch?.file.event(path, watch.token);
  }
}

/** One open file. */
class OpenFile implements File {
  readonly #driver: KernelDriver;
  readonly #kernel: Kernel;
  readonly #onData: (data: Buffer) => void;
  readonly #mayWait: boolean;
  #underWay = false;
  #closed = false;

  constructor(driver: KernelDriver, kernel: Kernel, onData: (data: Buffer) => void, mayWait: boolean) {
    this.#driver = driver;
    this.#kernel = kernel;
    this.#onData = onData;
    this.#mayWait = mayWait;
  }

  async write(data: Uint8Array): Promise<void> {
    const bytes = Buffer.from(data);
    const note = (what: string): void => void this.#driver.violations.push(what);
    if (this.#closed) return note("write to a closed file");
    if (bytes.length > BUFFER) throw writeError(this.#kernel === "freebsd" ? "EINVAL" : "E2BIG");
    const [type, requestId, transactionId] = [0, 4, 8].map((at) => bytes.readUInt32LE(at)) as [
      number,
      number,
      number,
    ];
    const payload = bytes.subarray(16);
    if (bytes.readUInt32LE(12) !== payload.length) note("not one whole message in one write");
    if (type === XS.RESET_WATCHES) note("RESET_WATCHES, which hits the whole kernel");
    if (this.#underWay) note("a second request under way: the first one's payload is overwritten");
    const waits = this.#kernel === "freebsd" || type === XS.WATCH || type === XS.UNWATCH;
    if (waits && !this.#mayWait) note("a write that waits for the daemon on the main thread");
    this.#underWay = true;
    const asked = this.#answer({ type, requestId, transactionId, payload: Buffer.from(payload) });
    const deliver = (reply: XsMessage): void => {
      this.#underWay = false;
      this.#deliver(reply);
    };
    try {
      // Linux queues the request and returns, but for watches.
      if (waits) setImmediate(deliver, await asked);
      else asked.then(deliver);
    } catch (error) {
      this.#underWay = false;
      throw error;
    }
  }

  event(path: string, token: string): void {
    // The header's ids are whatever was in memory.
    this.#deliver({
      type: XS.WATCH_EVENT,
      requestId: 0xdead_beef,
      transactionId: 0x5555_5555,
      payload: encodeStrings(path, token),
    });
  }

  ref(): void {
    // The ring's connection keeps the process.
  }

  unref(): void {
    // The same.
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#driver.files.delete(this);
  }

  async #answer(request: XsMessage): Promise<XsMessage> {
    const { type, requestId, transactionId, payload } = request;
    const freebsd = this.#kernel === "freebsd";
    const refusal = (code: string): XsMessage => ({
      type: XS.ERROR,
      requestId,
      transactionId,
      payload: encodeStrings(code),
    });
    if (freebsd && !FREEBSD_TYPES.includes(type)) return refusal("EINVAL");
    if (type === XS.WATCH || type === XS.UNWATCH) {
      const [path = "", token = ""] = decodeStrings(payload);
      if (type === XS.WATCH) {
        const error = await this.#driver.watch(this, path, token);
        if (error !== undefined && freebsd) return refusal(error);
        if (error !== undefined) throw writeError(error);
      } else await this.#driver.unwatch(this, path, token);
      const stray = freebsd ? Buffer.from("\0\x7f\x01\0\0") : Buffer.alloc(0);
      const id = this.#kernel === "linux-4.4" ? 0 : requestId;
      return { type, requestId: id, transactionId, payload: Buffer.concat([encodeStrings("OK"), stray]) };
    }
    const reply = await this.#driver.ask(request);
    return { ...reply, requestId };
  }

  #deliver(message: XsMessage): void {
    if (this.#closed) return;
    const bytes = encodeMessage(message);
    // A read may end anywhere.
    const cut = message.payload.length % bytes.length;
    for (const piece of [bytes.subarray(0, cut), bytes.subarray(cut)])
      if (piece.length > 0) this.#onData(Buffer.from(piece));
  }
}

function writeError(code: string): unknown {
  const cause = Object.assign(new Error(`${code}, write`), { code, errno: -1, syscall: "write" });
  return fromSystemError(cause, { doing: "cannot write to the device" });
}
