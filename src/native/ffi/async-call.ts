import type { Libc, NativeArgument, NativeFunction, NativeResult } from "./libc.js";

/** Calls in flight at once: libuv's pool has four threads, which the process's own file calls need too. */
export const MAX_ASYNC_CALLS = 2;

interface Limiter {
  inFlight: number;
  readonly waiting: (() => void)[];
}

const limiters = new WeakMap<object, Limiter>();

/**
 * Calls a libc function on a thread of libuv's pool, at most {@link MAX_ASYNC_CALLS} at a time, the others in the order
 * in which they came. The one way for koffi's asynchronous calls, because koffi neither keeps the buffers of a running
 * call alive nor limits what blocks the pool.
 *
 * The call itself must end soon: it keeps the process alive, delays `process.exit()` and cannot be cancelled.
 * @returns return value and errno, read on completion
 * @throws Error when koffi refuses the call, TypeError for arguments that do not fit the declaration
 */
export function callAsync(
  libc: Libc,
  declared: NativeFunction,
  ...args: NativeArgument[]
): Promise<NativeResult> {
  const limiter = limiterOf(libc);
  return new Promise((resolve, reject) => {
    const begin = (): void => {
      limiter.inFlight++;
      try {
        declared.async(...args, (error, rc) => {
          const errno = libc.errno();
          // Mentioned here, the buffers stay alive until the thread is done with them.
          args.length = 0;
          finish(limiter);
          if (error) reject(error);
          else resolve({ rc, errno });
        });
      } catch (error) {
        finish(limiter);
        reject(error);
      }
    };
    if (limiter.inFlight < MAX_ASYNC_CALLS) begin();
    else limiter.waiting.push(begin);
  });
}

function limiterOf(libc: Libc): Limiter {
  let limiter = limiters.get(libc.koffi);
  if (limiter === undefined) {
    limiter = { inFlight: 0, waiting: [] };
    limiters.set(libc.koffi, limiter);
  }
  return limiter;
}

function finish(limiter: Limiter): void {
  limiter.inFlight--;
  limiter.waiting.shift()?.();
}
