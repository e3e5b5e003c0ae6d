import { connect, type IpcSocketConnectOpts, type Socket } from "node:net";
import { type PvbusErrorCode, pvbusError } from "../errors.js";
import { Backoff } from "../flow/backoff.js";
import type { Call } from "../flow/call.js";
import { Notifier } from "../flow/notifier.js";
import { fromSystemError, isSystemError, systemError } from "../system-error.js";
import { isTooLong, MAX_PATH_BYTES } from "./channel.js";
import type { HeldName } from "./tree.js";

/** Longest stretch that one read takes where its buffer is used again. */
const READ_BYTES = 64 * 1024;
const NOTHING = new Uint8Array(0);
const TOO_LONG = `more than the ${MAX_PATH_BYTES} bytes that a socket's path may have`;

/** How a stream is opened and what it tells. */
export interface UnixStreamOptions {
  /** Names the socket in messages: `unix:/run/x.sock`. */
  readonly name: string;
  /** What could not be done where it cannot be opened; default: `cannot connect to` and the name. */
  readonly doing?: string | undefined;
  /** What to do about a failed connection, by errno; `default` serves the rest. */
  readonly advice?: Readonly<Record<string, string>> | undefined;
  /** Codes of a failed connection that differ from the general table, by errno. */
  readonly codes?: Readonly<Record<string, PvbusErrorCode>> | undefined;
  /** Receives bytes as they come; without it they wait for {@link UnixStream.read}. */
  readonly onData?: ((chunk: Buffer) => void) | undefined;
  /** The chunks of `onData` hold during the call only: all are read into the same memory. Default false. */
  readonly reusesChunks?: boolean | undefined;
  /** Hears once that no more comes: undefined when the other end closed, else why. Nothing after {@link UnixStream.close}. */
  readonly onEnd?: ((error: Error | undefined) => void) | undefined;
}

/** Begins to connect to a UNIX socket, and lets its place go when that is done. @throws a system error, `ENAMETOOLONG` */
export function connectTo(place: HeldName, options: Omit<IpcSocketConnectOpts, "path"> = {}): Socket {
  const letGo = (): void => place[Symbol.dispose]();
  try {
    if (isTooLong(place.path)) throw systemError("ENAMETOOLONG", TOO_LONG, "connect", place.path);
    return connect({ ...options, path: place.path })
      .once("connect", letGo)
      .once("close", letGo);
  } catch (error) {
    letGo();
    throw error;
  }
}

/**
 * Connects to a UNIX socket for whoever goes on with the socket itself.
 * @param hold gives its place, such as `host.files.holdSocket(path)`, which is let go here
 * @throws the system's error as it came, `ENAMETOOLONG` included; PvbusError `ERR_ABORTED`, `ERR_TIMEOUT`
 */
export async function openSocket(
  hold: () => HeldName,
  call: Call,
  waitingFor: string,
  options: Omit<IpcSocketConnectOpts, "path"> = {},
): Promise<Socket> {
  call.check(waitingFor);
  const socket = connectTo(hold(), options);
  try {
    const connected = new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve).once("error", reject);
    });
    await call.within(connected, waitingFor);
    socket.removeAllListeners("error");
    return socket;
  } catch (error) {
    // A failure that comes behind the end of the call is nobody's.
    socket.on("error", () => undefined);
    socket.destroy();
    throw error;
  }
}

/** Whether a program accepts connections at a UNIX socket. @throws the system's other errors; PvbusError as {@link openSocket} */
export async function isServed(hold: () => HeldName, call: Call): Promise<boolean> {
  try {
    (await openSocket(hold, call, "the socket")).destroy();
    return true;
  } catch (error) {
    if (isSystemError(error) && (error.code === "ECONNREFUSED" || error.code === "ENOENT")) return false;
    throw error;
  }
}

/** An open connection to a UNIX socket that moves bytes and knows no meaning. It keeps the process alive, see {@link UnixStream.unref}. */
export class UnixStream implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #news = new Notifier();
  #isClosed = false;
  #failure: Error | undefined;

  /**
   * Connects. Where the listener's backlog is full it waits for its turn, as a blocking connect(2) would.
   * @param hold gives the socket's place, such as `host.files.holdSocket(path)`: below a sysroot that is what confines it
   */
  static async connect(hold: () => HeldName, options: UnixStreamOptions, call: Call): Promise<UnixStream> {
    const { name, doing = `cannot connect to ${name}`, onData, reusesChunks } = options;
    const backoff = new Backoff({ firstMs: 1, longestMs: 20 });
    const entrance: { stream?: UnixStream } = {};
    const settings =
      onData !== undefined && reusesChunks === true
        ? intoOneBuffer((chunk) => entrance.stream?.isOpen && onData(chunk))
        : {};
    for (;;) {
      try {
        const socket = await openSocket(hold, call, `the connection to ${name}`, settings);
        entrance.stream = new UnixStream(socket, options);
        return entrance.stream;
      } catch (error) {
        if (!isSystemError(error) || error.code !== "EAGAIN")
          throw fromSystemError(error, {
            doing,
            codes: options.codes,
            advice: { ENAMETOOLONG: "shorten the path", ...options.advice },
          });
      }
      await backoff.sleep(call, `a turn to connect to ${name}`);
    }
  }

  private constructor(socket: Socket, { name, onData, reusesChunks, onEnd }: UnixStreamOptions) {
    this.#socket = socket;
    this.#name = name;
    socket.on("error", (error) => {
      this.#failure = error;
    });
    if (onData === undefined) socket.on("readable", this.#news.notify);
    else if (reusesChunks !== true)
      socket.on("data", (chunk: Buffer) => {
        if (!this.#isClosed) onData(chunk);
      });
    // The other end takes nothing that it has not got by now.
    socket.once("end", () => socket.destroy());
    socket.once("close", () => {
      this.#news.notify();
      if (!this.#isClosed) onEnd?.(this.#failure);
    });
  }

  /** Whether nothing is known of an end. */
  get isOpen(): boolean {
    return !this.#isClosed && !this.#socket.destroyed;
  }

  /**
   * Writes all of the bytes, after those of earlier calls; resolves when the system has taken them. Leave them as they are until
   * then. A call that ends while it waits leaves the other end in the middle of them.
   */
  async write(data: Uint8Array, call: Call): Promise<void> {
    const waitingFor = `${this.#name} to take what is written`;
    call.check(waitingFor);
    if (!this.isOpen) throw this.#gone();
    const written = new Promise<void>((resolve, reject) => {
      this.#socket.write(data, (error) => (error ? reject(error) : resolve()));
    });
    try {
      await call.within(written, waitingFor);
    } catch (error) {
      if (call.isEnd(error)) throw error;
      // Node's own words for a socket that was destroyed do not say why.
      throw isSystemError(error)
        ? fromSystemError(error, { doing: `cannot write to ${this.#name}` })
        : this.#gone();
    }
  }

  /**
   * Writes as {@link UnixStream.write}, for messages by the hundred thousand: an end is told by `onEnd` alone.
   * @returns undefined when the bytes are taken; else a promise until which they belong to the stream, which never rejects
   */
  send(data: Uint8Array): Promise<void> | undefined {
    const socket = this.#socket;
    if (!this.isOpen) return undefined;
    socket.write(data);
    // The system took all of it at once when nothing is left in the socket's own queue.
    if (socket.writableLength === 0) return undefined;
    return new Promise((resolve) => {
      socket.write(NOTHING, () => resolve());
    });
  }

  /**
   * Returns the next bytes, as many as have come; undefined when the other end has closed. For streams without `onData`; one
   * reader at a time. What nobody reads stays in the system, so that the other end waits.
   */
  async read(call: Call, waitingFor: string = `bytes from ${this.#name}`): Promise<Buffer | undefined> {
    for (;;) {
      if (this.#isClosed) throw this.#gone();
      const chunk: Buffer | null = this.#socket.read();
      if (chunk !== null) return chunk;
      if (this.#failure !== undefined) throw this.#gone();
      if (this.#socket.destroyed || this.#socket.readableEnded) return undefined;
      await this.#news.wait(call, waitingFor);
    }
  }

  /** Asks for no more bytes for the moment; some may come all the same. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Keeps the process alive, as at the beginning. */
  ref(): void {
    if (this.isOpen) this.#socket.ref();
  }

  /** Lets the process end. */
  unref(): void {
    if (this.isOpen) this.#socket.unref();
  }

  /** Closes it: no event comes any more, what waits rejects with `ERR_DISCONNECTED`. May be called twice. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#socket.destroy();
    this.#news.notify();
  }

  /** The same, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #gone(): Error {
    const why = this.#isClosed ? "it was closed here" : (this.#failure?.message ?? "the other end closed it");
    return pvbusError("ERR_DISCONNECTED", `the connection to ${this.#name} is gone: ${why}; open it again`, {
      cause: this.#failure,
    });
  }
}

/** The types lack onread for paths, where it works as everywhere. */
function intoOneBuffer(onData: (chunk: Buffer) => void): Omit<IpcSocketConnectOpts, "path"> {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const callback = (bytes: number): boolean => {
    onData(bytes === READ_BYTES ? buffer : buffer.subarray(0, bytes));
    return true;
  };
  return { onread: { buffer, callback } } as Omit<IpcSocketConnectOpts, "path">;
}
