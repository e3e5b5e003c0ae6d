import { NOT_THERE_YET, PvbusError } from "../base/errors.js";
import { Call, type CallOptions } from "../base/flow/call.js";

/** Options of {@link untilThere}. */
export interface UntilThereOptions extends CallOptions {
  /** Called with what is not there yet, each time. */
  readonly waiting?: ((error: PvbusError) => void) | undefined;
}

/** How long it waits before it tries again. */
const PAUSE_MS = 1000;

/**
 * Tries again, a second later, for as long as there is no interface, no transport, or a connection was lost. Open the bus inside:
 * what it finds does not change while it is open.
 * @param attempt gets the signal and the time that is left
 * @throws PvbusError `ERR_TIMEOUT` and `ERR_ABORTED` at the end of its time (default: none), and whatever else an attempt throws
 * @example
 * const config = await untilThere(async (limits) => {
 *   await using bus = await openPvbus();
 *   return bus.portable("com.example.agent").wait("config", limits);
 * });
 */
export async function untilThere<T>(
  attempt: (limits: CallOptions) => Promise<T>,
  { waiting, ...options }: UntilThereOptions = {},
): Promise<T> {
  const call = new Call(options, Number.POSITIVE_INFINITY);
  for (;;) {
    call.check("an interface");
    try {
      return await attempt({ signal: call.signal, timeoutMs: call.remainingMs });
    } catch (error) {
      if (!PvbusError.is(error) || !NOT_THERE_YET.includes(error.code)) throw error;
      waiting?.(error);
    }
    await call.sleep(PAUSE_MS, "an interface");
  }
}
