import { readFileSync } from "node:fs";

/** Keeps the event loop for so many milliseconds. */
export function work(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

/** How long this thread was kept busy at a stretch. */
export interface BusyMeter {
  /** Longest stretch so far, in milliseconds. */
  readonly longestMs: number;
  /** Ends the measuring. */
  stop(): void;
}

/**
 * Measures the longest stretch of this thread's processor time between two turns of the event loop: what others take of
 * a busy machine does not count. Where the system does not tell it, wall-clock time is taken.
 */
export function busyMeter(): BusyMeter {
  let last = processorMs();
  let longestMs = 0;
  const look = (): void => {
    const now = processorMs();
    longestMs = Math.max(longestMs, now - last);
    last = now;
  };
  const timer = setInterval(look, 1);
  return {
    get longestMs() {
      return longestMs;
    },
    stop: () => {
      look();
      clearInterval(timer);
    },
  };
}

/** Returns the processor time that the main thread has had, in milliseconds. */
export function processorMs(): number {
  try {
    return Number(readFileSync("/proc/self/schedstat", "latin1").split(" ", 1)[0]) / 1e6;
  } catch {
    return performance.now();
  }
}
