import { PvbusError, type PvbusErrorCode } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { bySnapshots, type WatchPace, watchLoop } from "../../src/base/flow/watch-loop.js";
import type { RawEntry, WatchHooks } from "../../src/contract/store.js";
import type { VmwareOptions } from "./options.js";

/** Looks that failed in passing: the next one may do. */
const PASSING: readonly PvbusErrorCode[] = ["ERR_DISCONNECTED", "ERR_BUSY", "ERR_CONFLICT"];

/** How a store is watched. */
interface Looking extends WatchHooks {
  readonly look: () => Promise<ReadonlyMap<string, Uint8Array>>;
  readonly closing: AbortSignal;
  readonly options: VmwareOptions;
  /** The store's own pace. */
  readonly usual: WatchPace;
}

/**
 * Yields changes by looking again and again: soon after a change, ever more seldom while nothing happens. Two changes
 * between two looks are seen as one. Ends when the call is over.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what a look throws
 */
export function watchByLooking(
  { look, options, usual, ...settings }: Looking,
  call: Call,
): AsyncGenerator<RawEntry, void, undefined> {
  const { pollMs: firstMs = usual.firstMs, longestPollMs: longestMs = usual.longestMs } = options;
  const source = bySnapshots({ snapshot: look, change: (key, value): RawEntry => ({ key, value }) });
  const isPassing = (error: unknown): boolean => PvbusError.is(error) && PASSING.includes(error.code);
  return watchLoop(source, { ...settings, pace: { firstMs, longestMs }, isPassing }, call);
}
