import { PvbusError } from "../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { type GuestNews, openAdministration } from "./administration.js";

/** What is waited for. */
export interface AwaitedValue extends CallOptions {
  /** The guest. */
  readonly guest: string;
  /** Its key. */
  readonly key: string;
  /** Whether a value is the one that is waited for. Default: any is. */
  readonly isEnough?: ((value: Uint8Array) => boolean) | undefined;
  /** Hears what comes in the meantime. */
  readonly onNews?: ((news: GuestNews) => void) | undefined;
}

/** Nobody tells of changes while no host serves: so often the keys are looked at. */
const LOOK_MS = 1_000;
/** Another administrator is at it for a moment. */
const OPEN_MS = 10_000;

/**
 * Waits until a guest's key has a value, however often the host is stopped and started meanwhile.
 * @param awaited without `timeoutMs` it waits for ever
 * @throws PvbusError `ERR_UNAVAILABLE` for no such guest, `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_PERMISSION`
 */
export async function waitForValue(directory: string, awaited: AwaitedValue): Promise<Uint8Array> {
  const { guest, key, isEnough = () => true, onNews, signal, timeoutMs } = awaited;
  const call = new Call({ signal, timeoutMs }, Number.POSITIVE_INFINITY);
  for (;;) {
    try {
      await using administration = await openAdministration(directory, {
        signal,
        timeoutMs: Math.min(OPEN_MS, call.remainingMs),
      });
      const limits = { signal, timeoutMs: call.remainingMs };
      for await (const news of administration.follow(guest, key, limits)) {
        onNews?.(news);
        if (news.value !== undefined && isEnough(news.value)) return news.value;
      }
    } catch (error) {
      const isLost = PvbusError.is(error) && (error.code === "ERR_DISCONNECTED" || error.code === "ERR_BUSY");
      if (!isLost) throw error;
    }
    await call.sleep(LOOK_MS, `the value of "${key}" of guest ${guest}`);
  }
}
