import { type KoffiLoader, loadKoffi } from "../ffi/koffi.js";
import type { Libc } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";
import type { PollSource } from "./poll-source.js";
import { type PollMechanism, pollMechanism } from "./pollability.js";
import { ReadDescriptor } from "./read-descriptor.js";
import { openSource } from "./ready.js";

/** Options of {@link openPollable}. */
export interface PollableOptions {
  /** Bytes of the largest message: one read per event takes at most that much. */
  readonly bufferBytes: number;
  /** Receives what one read gave; the bytes are the receiver's own. Called from the event loop, never in the opening. */
  readonly onData: (data: Buffer) => void;
  /**
   * Looks at what one read gave before {@link onData} does, straight from the event: true when that was all. The bytes
   * are valid during the call only; it must not throw, and no promise that it makes goes on before the next event.
   */
  readonly onRead?: ((data: Buffer) => boolean) | undefined;
  /** Receives the end, once: undefined at the end of file, else the error. Close it then. */
  readonly onEnd: (error: Error | undefined) => void;
  /**
   * What the end of file means: `end` (default), or `wait` for a peer that may come back (a virtio port whose host end
   * is closed, a named pipe without writers); it is looked for five times a second.
   */
  readonly hangup?: "end" | "wait" | undefined;
  /**
   * Read on an event's word alone instead of asking poll(2) once more: one system call less, for a device whose messages
   * nobody else can take. Default false.
   */
  readonly soleReader?: boolean | undefined;
  /** Way of waiting; default: the best that the descriptor and the runtime have. */
  readonly mechanism?: PollMechanism | undefined;
  /** Stands in for the native library. */
  readonly koffi?: KoffiLoader | undefined;
}

/** A descriptor that is read whenever there is something to read. */
export interface Pollable extends AsyncDisposable {
  /** How it waits. */
  readonly mechanism: PollMechanism;
  /** Keeps the process alive, as at the beginning; nothing after the end or {@link Pollable.close}. */
  ref(): void;
  /** Lets the process end. */
  unref(): void;
  /** Stops reading: no listener is called any more. Resolves when nothing of it is open; may be called twice. */
  close(): Promise<void>;
}

type Item = { readonly data: Buffer } | { readonly end: Error | undefined };

const HANGUP_CHECK_MS = 200;

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
  return new PolledDescriptor(openLibc(options.koffi ?? loadKoffi), fd, options);
}

class PolledDescriptor implements Pollable {
  readonly mechanism: PollMechanism;
  readonly #options: PollableOptions;
  readonly #descriptor: ReadDescriptor;
  readonly #source: PollSource;
  readonly #queue: Item[] = [];
  #handOver: NodeJS.Immediate | undefined;
  #hangupTimer: NodeJS.Timeout | undefined;
  #referenced = true;
  #ended = false;
  #closing: Promise<void> | undefined;

  constructor(libc: Libc, fd: number, options: PollableOptions) {
    this.#options = options;
    this.#descriptor = new ReadDescriptor(libc, fd, options.bufferBytes, options.soleReader === true);
    try {
      const best = pollMechanism(libc, this.#descriptor.fd);
      this.mechanism = options.mechanism ?? best;
      const ready = (failed: number | undefined): void => this.#ready(failed);
      this.#source = openSource(libc, this.#descriptor.fd, this.mechanism, "readable", ready);
    } catch (error) {
      this.#descriptor.close();
      throw error;
    }
  }

  ref(): void {
    this.#refer(true);
  }

  unref(): void {
    this.#refer(false);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #refer(referenced: boolean): void {
    if (this.#closing !== undefined) return;
    this.#referenced = referenced;
    const how = referenced ? "ref" : "unref";
    this.#source[how]();
    this.#hangupTimer?.[how]();
  }

  async #close(): Promise<void> {
    clearTimeout(this.#hangupTimer);
    clearImmediate(this.#handOver);
    this.#queue.length = 0;
    await this.#source.close();
    this.#descriptor.close();
  }

  /** The raw event: exactly one read; neither an exception nor a promise leaves here. */
  #ready(failed: number | undefined): void {
    if (this.#closing !== undefined || this.#ended) return;
    try {
      const got = this.#descriptor.read(failed);
      if (got === "again") return;
      if (got instanceof Error) this.#end(got);
      else if (got.length > 0) {
        // Only while nothing waits before it: order counts.
        if (this.#queue.length > 0 || this.#options.onRead?.(got) !== true)
          this.#push({ data: Buffer.from(got) });
        // libuv stops a handle whose event was a failure, though there may be more to read before it shows.
        if (failed !== undefined) this.#source.start();
      } else if (this.#options.hangup === "wait") this.#awaitPeer();
      else this.#end(undefined);
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #end(error: Error | undefined): void {
    this.#ended = true;
    this.#source.stop();
    this.#push({ end: error });
  }

  /** A closed peer is readable for ever: stop until it is back. */
  #awaitPeer(): void {
    this.#source.stop();
    this.#hangupTimer = setTimeout(() => {
      if (this.#descriptor.isHungUp()) this.#awaitPeer();
      else this.#source.start();
    }, HANGUP_CHECK_MS);
    if (!this.#referenced) this.#hangupTimer.unref();
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
