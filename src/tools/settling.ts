import { NOT_THERE_YET, PvbusError, type PvbusErrorCode } from "../base/errors.js";
import { Call } from "../base/flow/call.js";
import { monotonicMs } from "../base/flow/monotonic.js";
import type { Bus } from "../bus/bus.js";
import { chosenInterfaces } from "./interfaces.js";
import type { UserdataOptions } from "./userdata.js";

/** So long a store that is not there yet is waited for, where the caller sets no limit. */
const PATIENCE_MS = 30_000;
/** Pauses between two looks; values that come one after the other come at once. */
const LOOK_MS = 200;

/** That is how it is at boot: the transport's module, the daemon or the host's service is still to come. */
const NOT_YET: readonly PvbusErrorCode[] = [
  ...NOT_THERE_YET,
  "ERR_BUSY",
  "ERR_TIMEOUT",
  // Parts of a set that is still coming.
  "ERR_CONFLICT",
];

/**
 * Looks again and again until the host has given all: at once where it does not give piece by piece, else when nothing new came for
 * as long as its store says. At the end of the time what was seen last counts; a store that was not there has given nothing.
 * @param look returns what there is
 * @throws PvbusError what a look throws that will not change: `ERR_PERMISSION`, `ERR_VALUE_INVALID`, …
 */
export async function untilSettled<K extends string>(
  bus: Bus,
  options: UserdataOptions,
  look: () => Promise<ReadonlyMap<K, Uint8Array>>,
): Promise<ReadonlyMap<K, Uint8Array>> {
  const { signal, timeoutMs } = options;
  const call = new Call({ signal, timeoutMs }, PATIENCE_MS);
  const quietMs = Math.max(
    0,
    ...chosenInterfaces(bus, options).map(({ bootData }) => bootData?.settleMs ?? 0),
  );
  let last: ReadonlyMap<K, Uint8Array> | undefined;
  let failure: PvbusError | undefined;
  let since = monotonicMs();
  for (;;) {
    try {
      const now = await look();
      if (last === undefined || !isSame(last, now)) since = monotonicMs();
      [last, failure] = [now, undefined];
      if (monotonicMs() - since >= quietMs) return now;
    } catch (error) {
      if (!PvbusError.is(error) || !NOT_YET.includes(error.code)) throw error;
      failure = error;
      since = monotonicMs();
    }
    try {
      await call.sleep(LOOK_MS, "the host's data");
    } catch (error) {
      if (!call.isEnd(error) || call.signal?.aborted === true) throw error;
      // Half a set is no data, and must not be passed over in silence.
      if (failure?.code === "ERR_CONFLICT") throw failure;
      return last ?? new Map();
    }
  }
}

function isSame<K>(a: ReadonlyMap<K, Uint8Array>, b: ReadonlyMap<K, Uint8Array>): boolean {
  if (a.size !== b.size) return false;
  for (const [name, value] of a) {
    const other = b.get(name);
    if (other === undefined || Buffer.compare(value, other) !== 0) return false;
  }
  return true;
}
