import { isMainThread } from "node:worker_threads";
import type { Koffi } from "../ffi/koffi.js";

export type Interest = "readable" | "writable";

/** Hears that a descriptor may be ready; `failed` is a positive errno when the system gave up on it. Never throws. */
export type ReadyListener = (failed: number | undefined) => void;

/** Reports when one descriptor is ready: an event handle of libuv, or the shared poll(2) of {@link PollWaiter}. */
export interface PollSource {
  /** Reports from now on, again and again while the descriptor is ready. */
  start(): void;
  stop(): void;
  /** Keeps the process alive while started; the state at the beginning. */
  ref(): void;
  unref(): void;
  /** Ends it for good; no other method is called afterwards. Resolves when the descriptor may be closed. */
  close(): Promise<void>;
}

/** Collected while active, a handle goes silent: the live ones stay referenced here. */
const live = new Set<PollSource>();

/**
 * Watches a descriptor by libuv's own event loop, at once. The descriptor must be known to be pollable and have no other
 * handle in this process: libuv aborts the process otherwise. For the main thread alone: a worker that ends, at whatever
 * moment, with an open one takes the process with it.
 * @throws Error in a worker thread
 */
export function watchByHandle(
  koffi: Koffi,
  fd: number,
  interest: Interest,
  ready: ReadyListener,
): PollSource {
  if (!isMainThread) throw new Error("a worker thread must not wait by an event handle");
  const wanted = { [interest]: true };
  // koffi's declaration leaves out that the callback gets a status first. One that throws would leave the exception pending
  // for an unrelated call: `ready` does not throw.
  const callback = (first: unknown): void =>
    ready(typeof first === "number" && first < 0 ? -first : undefined);
  const handle = koffi.node.poll(fd, wanted, callback);
  const source: PollSource = {
    start: () => handle.start(wanted, callback),
    stop: () => handle.stop(),
    ref: () => handle.ref(),
    unref: () => handle.unref(),
    close: () => {
      live.delete(source);
      handle.close();
      return Promise.resolve();
    },
  };
  live.add(source);
  return source;
}
