import { onAbort } from "../../base/flow/abort.js";
import type { Call } from "../../base/flow/call.js";
import { closeDescriptor, duplicate } from "../ffi/descriptor.js";
import type { Libc } from "../ffi/libc.js";
import { HandleSource } from "./poll-handle.js";
import type { Interest, PollSource, ReadyListener } from "./poll-source.js";
import { openPollWaiter } from "./poll-waiter.js";
import { type PollMechanism, pollMechanism } from "./pollability.js";

/** Begins to watch a descriptor, started and referenced. It must be known to take the mechanism and have no other handle. */
export function openSource(
  libc: Libc,
  fd: number,
  mechanism: PollMechanism,
  interest: Interest,
  ready: ReadyListener,
): PollSource {
  return mechanism === "handle"
    ? new HandleSource(libc.koffi, fd, interest, ready)
    : openPollWaiter(libc).watch(fd, interest, ready);
}

/** How {@link whenReady} waits. */
export interface ReadyOptions {
  /** Ends the waiting with an error. */
  readonly call: Call;
  /** Ends the waiting as if the descriptor were ready. */
  readonly until?: AbortSignal | undefined;
  /** Names the waiting in the errors. */
  readonly waitingFor?: string | undefined;
  /** Way of waiting; default: the best one. */
  readonly mechanism?: PollMechanism | undefined;
}

/**
 * Waits once for a descriptor to be ready, through a duplicate: it may be watched elsewhere at the same time. An error
 * or a closed peer counts as ready; the call that follows tells which it is.
 * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_NOT_SUPPORTED` for a descriptor without events; a system error
 */
export async function whenReady(
  libc: Libc,
  fd: number,
  interest: Interest,
  options: ReadyOptions,
): Promise<void> {
  const { call, until, waitingFor } = options;
  call.check(waitingFor);
  if (until?.aborted) return;
  const own = duplicate(libc, fd);
  let source: PollSource | undefined;
  let over = (): void => undefined;
  let forget = (): void => undefined;
  try {
    const best = pollMechanism(libc, own);
    const ready = new Promise<void>((resolve) => {
      over = resolve;
      source = openSource(libc, own, options.mechanism ?? best, interest, () => {
        source?.stop();
        // Promise jobs of the raw event would not run on every Node.
        setImmediate(resolve);
      });
    });
    forget = onAbort(until, over);
    await call.within(ready, waitingFor);
  } finally {
    forget();
    await source?.close();
    closeDescriptor(own);
  }
}
