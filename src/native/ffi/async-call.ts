import { Call } from "../../base/flow/call.js";
import { Semaphore } from "../../base/flow/queues.js";
import { type Koffi, oncePer } from "./koffi.js";
import type { Libc, NativeArgument, NativeFunction, NativeResult } from "./libc.js";

/** Calls in flight at once: libuv's pool has four threads, which the process's own file calls need too. */
export const MAX_ASYNC_CALLS = 2;

const limiterOf = oncePer((_: Koffi) => new Semaphore(MAX_ASYNC_CALLS));
/** One thread more, for waits: they hold up neither calls nor, with what is left of the pool, the process's files. */
const waiterOf = oncePer((_: Koffi) => new Semaphore(1));
const FOREVER = Call.endless();

/**
 * Calls a native function on a thread of libuv's pool, at most {@link MAX_ASYNC_CALLS} at a time, the others in the order
 * in which they came. The one way for koffi's asynchronous calls, because koffi neither keeps the buffers of a running
 * call alive nor limits what blocks the pool.
 *
 * The call itself must end soon: it keeps the process alive, delays `process.exit()` and cannot be cancelled.
 * @returns return value and errno, read on completion
 * @throws Error when koffi refuses the call, TypeError for arguments that do not fit the declaration
 */
export function callAsync(
  { koffi }: Pick<Libc, "koffi">,
  declared: NativeFunction,
  ...args: NativeArgument[]
): Promise<NativeResult> {
  return callWithin(limiterOf(koffi), koffi, declared, args);
}

/**
 * The same for a call that waits for an event, a second at most, and that another call can end: it has a thread beside those of
 * {@link callAsync}. There is one for all: whoever waits again lets others take a turn.
 */
export function waitAsync(
  { koffi }: Pick<Libc, "koffi">,
  declared: NativeFunction,
  ...args: NativeArgument[]
): Promise<NativeResult> {
  return callWithin(waiterOf(koffi), koffi, declared, args);
}

async function callWithin(
  limiter: Semaphore,
  koffi: Koffi,
  declared: NativeFunction,
  args: NativeArgument[],
): Promise<NativeResult> {
  const turn = limiter.enter(FOREVER, "a thread");
  if (turn !== undefined) await turn;
  return new Promise((resolve, reject) => {
    try {
      declared.async(...args, (error, rc) => {
        const errno = koffi.errno();
        // Mentioned here, the buffers stay alive until the thread is done with them.
        args.length = 0;
        limiter.leave();
        if (error) reject(error);
        else resolve({ rc, errno });
      });
    } catch (error) {
      limiter.leave();
      throw error;
    }
  });
}
