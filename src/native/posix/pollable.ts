import { monotonicMs } from "../../base/flow/monotonic.js";
import { closeDescriptor, duplicate } from "../ffi/descriptor.js";
import type { KoffiLoader } from "../ffi/koffi.js";
import type { Libc, NativeFunction } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";
import type { PollSource } from "./poll-source.js";
import { openSource, type PollMechanism, pollMechanism } from "./ready.js";

/** Options of {@link openPollable}. */
export interface PollableOptions {
  /** Bytes of the largest message: one read per event takes at most that much. */
  readonly bufferBytes: number;
  /** Receives what one read gave; the bytes are the receiver's own. Called from the event loop, never in the opening. */
  readonly onData: (data: Buffer) => void;
  /**
   * Looks at what one read gave before {@link onData} does, straight from the event: true when that was all, `next` when the
   * next is likely to come at once ({@link PollableOptions.lingerMs}). The bytes are valid during the call only; it must not
   * throw, and no promise that it makes goes on before the next event.
   */
  readonly onRead?: ((data: Buffer) => boolean | "next") | undefined;
  /**
   * How long the thread sleeps in poll(2) for the message after one of which {@link onRead} said `next`, in milliseconds: two
   * turns of the event loop less for each. Default 0: not at all.
   */
  readonly lingerMs?: number | undefined;
  /** Receives the end, once: undefined at the end of file, else the error. Close it then. */
  readonly onEnd: (error: Error | undefined) => void;
  /**
   * Read on an event's word alone instead of asking poll(2) once more: one system call less, for a device whose messages
   * nobody else can take. Default false.
   */
  readonly soleReader?: boolean | undefined;
  /** Way of waiting; default: the best that the descriptor and the runtime have. */
  readonly mechanism?: PollMechanism | undefined;
  readonly koffi?: KoffiLoader | undefined;
}

type Item = { readonly data: Buffer } | { readonly end: Error | undefined };

/* poll.h of every system served: struct pollfd is fd i32 at 0, events i16 at 4, revents i16 at 6. */
const POLLIN = 0x1;
/** So long messages in a row keep everything else of the thread waiting. */
const LINGER_AT_MOST_MS = 10;

/**
 * Reads a descriptor whenever it is readable, without a thread where the system allows.
 *
 * The descriptor stays the caller's: a duplicate is watched, so the caller may close his own before or after. Its open
 * file becomes non-blocking for everybody who shares it. Two pollables of one open file take each other's data.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls, `ERR_NOT_SUPPORTED` for a descriptor without events;
 *   RangeError for a buffer without room; a system error (`EBADF`, …) otherwise
 */
export function openPollable(fd: number, options: PollableOptions): Pollable {
  if (!(Number.isSafeInteger(options.bufferBytes) && options.bufferBytes > 0)) {
    throw new RangeError("bufferBytes must be a whole number, one or more");
  }
  return new Pollable(openLibc(options.koffi), fd, options);
}

/** A descriptor that is read whenever there is something to read. */
export class Pollable implements AsyncDisposable {
  readonly mechanism: PollMechanism;
  readonly #options: PollableOptions;
  readonly #libc: Libc;
  readonly #poll: NativeFunction;
  readonly #read: NativeFunction;
  readonly #write: NativeFunction;
  readonly #fd: number;
  readonly #buffer: Buffer;
  readonly #pollfd = Buffer.alloc(8);
  readonly #source: PollSource;
  readonly #queue: Item[] = [];
  #handOver: NodeJS.Immediate | undefined;
  #ended = false;
  #closing: Promise<void> | undefined;

  /** @internal Use {@link openPollable}. */
  constructor(libc: Libc, fd: number, options: PollableOptions) {
    this.#options = options;
    this.#libc = libc;
    this.#poll = libc.function("int poll(void *, unsigned long, int)");
    this.#read = libc.function("intptr_t read(int, void *, size_t)");
    this.#write = libc.function("intptr_t write(int, const void *, size_t)");
    this.#buffer = Buffer.alloc(options.bufferBytes);
    this.#fd = duplicate(libc, fd);
    this.#pollfd.writeInt32LE(this.#fd, 0);
    this.#pollfd.writeInt16LE(POLLIN, 4);
    try {
      const best = pollMechanism(libc, this.#fd);
      this.mechanism = options.mechanism ?? best;
      const ready = (failed: number | undefined): void => this.#ready(failed);
      this.#source = openSource(libc, this.#fd, this.mechanism, "readable", ready);
    } catch (error) {
      closeDescriptor(this.#fd);
      throw error;
    }
  }

  /** Keeps the process alive, as at the beginning; nothing after the end or {@link Pollable.close}. */
  ref(): void {
    if (this.#closing === undefined) this.#source.ref();
  }

  unref(): void {
    if (this.#closing === undefined) this.#source.unref();
  }

  /** Writes to the descriptor, in one call. @returns how many bytes it took @throws a system error */
  write(bytes: Uint8Array): number {
    const rc = this.#write(this.#fd, bytes, bytes.length);
    if (rc < 0) throw this.#libc.systemError("write", this.#libc.koffi.errno());
    return rc;
  }

  /** Stops reading: no listener is called any more. Resolves when nothing of it is open; may be called twice. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    clearImmediate(this.#handOver);
    this.#queue.length = 0;
    await this.#source.close();
    closeDescriptor(this.#fd);
  }

  /** The raw event: one read, and those that linger behind it; neither an exception nor a promise leaves here. */
  #ready(failed: number | undefined): void {
    if (this.#closing !== undefined || this.#ended) return;
    try {
      if (this.#take(failed) && this.#options.lingerMs !== undefined) this.#linger(this.#options.lingerMs);
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Exactly one read. @returns whether the next one is likely to come at once */
  #take(failed: number | undefined): boolean {
    const got = this.#readOnce(failed);
    if (got === "again") return false;
    if (got instanceof Error || got.length === 0) {
      this.#end(got instanceof Error ? got : undefined);
      return false;
    }
    // Only while nothing waits before it: order counts.
    const taken = this.#queue.length === 0 && this.#options.onRead?.(got);
    if (taken !== true && taken !== "next") this.#push({ data: Buffer.from(got) });
    // libuv stops a handle whose event was a failure, though there may be more to read before it shows.
    if (failed !== undefined) this.#source.start();
    return taken === "next";
  }

  #linger(ms: number): void {
    const until = monotonicMs() + LINGER_AT_MOST_MS;
    while (this.#closing === undefined && this.#events(ms) !== 0 && this.#take(undefined))
      if (monotonicMs() > until) return;
  }

  /**
   * Reads what is there, a view that holds until the next read: empty at the end of file, `again` when there is nothing after all.
   * @param failed errno that the event came with; taken when the read itself finds no fault
   */
  #readOnce(failed: number | undefined): Buffer | Error | "again" {
    let errno = failed;
    // Some devices sleep in read although non-blocking (hv_kvp): never without an event at hand.
    if (this.#options.soleReader === true || this.#events(0) !== 0) {
      const got = this.#libc.call(this.#read, this.#fd, this.#buffer, this.#buffer.length);
      if (got.rc >= 0) return this.#buffer.subarray(0, got.rc);
      const name = this.#libc.errnoName(got.errno);
      if (name !== "EAGAIN" && name !== "EINTR") errno = got.errno;
    }
    return errno === undefined ? "again" : this.#libc.systemError("read", errno);
  }

  #events(timeoutMs: number): number {
    this.#pollfd.writeInt16LE(0, 6);
    const rc = this.#poll(this.#pollfd, 1, timeoutMs);
    return rc > 0 ? this.#pollfd.readInt16LE(6) : 0;
  }

  #end(error: Error | undefined): void {
    this.#ended = true;
    this.#source.stop();
    this.#push({ end: error });
  }

  /** Hands over outside the raw event, where promise jobs run on every Node. */
  #push(item: Item): void {
    this.#queue.push(item);
    this.#handOver ??= setImmediate(() => this.#drain());
  }

  #drain(): void {
    this.#handOver = undefined;
    const item = this.#queue.shift();
    if (item === undefined) return;
    // Armed before the listener, which may throw: the rest is still handed over.
    if (this.#queue.length > 0) this.#handOver = setImmediate(() => this.#drain());
    if ("data" in item) this.#options.onData(item.data);
    else this.#options.onEnd(item.end);
  }
}
