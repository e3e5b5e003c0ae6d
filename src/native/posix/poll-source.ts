/** What to wait for. */
export type Interest = "readable" | "writable";

/** Hears that a descriptor may be ready; `failed` is a positive errno when the system gave up on it. Never throws. */
export type ReadyListener = (failed: number | undefined) => void;

/** Reports when one descriptor is ready: an event handle of libuv, or the shared poll(2) of {@link PollWaiter}. */
export interface PollSource {
  /** Reports from now on, again and again while the descriptor is ready. */
  start(): void;
  /** Stops reporting. */
  stop(): void;
  /** Keeps the process alive while started; the state at the beginning. */
  ref(): void;
  /** Lets the process end although started. */
  unref(): void;
  /** Ends it for good; no other method is called afterwards. Resolves when the descriptor may be closed. */
  close(): Promise<void>;
}
