import { isMainThread } from "node:worker_threads";
import type { Koffi } from "../ffi/koffi.js";
import type { Interest, PollSource, ReadyListener } from "./poll-source.js";

/** The part of koffi's handle in use; its own declaration leaves out that the callback gets a status first. */
interface RawHandle {
  start(options: RawInterest, callback: RawCallback): void;
  stop(): void;
  ref(): void;
  unref(): void;
  close(): void;
}
type RawInterest = Readonly<Partial<Record<Interest, true>>>;
type RawCallback = (statusOrEvents: unknown) => void;
type RawPoll = (fd: number, options: RawInterest, callback: RawCallback) => RawHandle;

/** Collected while active, a handle goes silent: the live ones stay referenced here. */
const live = new Set<HandleSource>();

/**
 * Watches a descriptor by libuv's own event loop. The descriptor must be known to be pollable and have no other
 * handle in this process: libuv aborts the process otherwise. For the main thread alone: a worker that ends, at whatever
 * moment, with an open one takes the process with it.
 */
export class HandleSource implements PollSource {
  readonly #handle: RawHandle;
  readonly #interest: RawInterest;
  readonly #callback: RawCallback;

  /** Starts at once. @throws Error in a worker thread */
  constructor(koffi: Koffi, fd: number, interest: Interest, ready: ReadyListener) {
    if (!isMainThread) throw new Error("a worker thread must not wait by an event handle");
    this.#interest = { [interest]: true };
    this.#callback = (first) => {
      // A callback that throws would leave the exception pending for an unrelated call: `ready` does not throw.
      ready(typeof first === "number" && first < 0 ? -first : undefined);
    };
    const poll = koffi.node.poll as unknown as RawPoll;
    this.#handle = poll(fd, this.#interest, this.#callback);
    live.add(this);
  }

  start(): void {
    this.#handle.start(this.#interest, this.#callback);
  }

  stop(): void {
    this.#handle.stop();
  }

  ref(): void {
    this.#handle.ref();
  }

  unref(): void {
    this.#handle.unref();
  }

  close(): Promise<void> {
    live.delete(this);
    this.#handle.close();
    return Promise.resolve();
  }
}
