import { PvbusError, type PvbusErrorCode, pvbusError } from "../../src/base/errors.js";
import { pause } from "../../src/base/flow/abort.js";
import type { Call } from "../../src/base/flow/call.js";
import type { RawEntry } from "../../src/contract/store.js";

/** What a watch by looking needs. */
export interface PollParts {
  /** Returns what is there now, by key. */
  readonly look: () => Promise<ReadonlyMap<string, Uint8Array>>;
  /** Milliseconds to the next look behind a change. */
  readonly pollMs: number;
  /** Longest time to the next look. */
  readonly longestPollMs: number;
  /** Called when every later change will be seen. */
  readonly ready: () => void;
  /** Aborts when the store closes. */
  readonly closing: AbortSignal;
}

/** Looks that failed in passing: the next one may do. */
const PASSING: readonly PvbusErrorCode[] = ["ERR_DISCONNECTED", "ERR_BUSY", "ERR_CONFLICT"];
const BACK_OFF = 1.5;

/**
 * Yields changes by looking again and again: soon behind a change, ever more seldom while nothing happens. Two changes
 * between two looks are seen as one. Ends when the call is over.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what a look throws
 */
export async function* watchByPolling(
  parts: PollParts,
  call: Call,
): AsyncGenerator<RawEntry, void, undefined> {
  const { look, pollMs, longestPollMs, closing } = parts;
  const isOver = (): boolean => call.signal?.aborted === true || call.remainingMs === 0;
  if (isOver()) return;
  try {
    let before = await look();
    parts.ready();
    for (let wait = pollMs; ; wait = Math.min(wait * BACK_OFF, longestPollMs)) {
      await pause(Math.min(wait, call.remainingMs), call.signal, closing);
      if (closing.aborted) throw pvbusError("ERR_DISCONNECTED", "the store was closed; open the bus again");
      if (isOver()) return;
      const after = await lookAgain(look, closing);
      if (after === undefined) continue;
      for (const change of differences(before, after)) {
        wait = pollMs / BACK_OFF;
        yield change;
      }
      before = after;
    }
  } catch (error) {
    if (isOver() && PvbusError.is(error) && (error.code === "ERR_ABORTED" || error.code === "ERR_TIMEOUT"))
      return;
    throw error;
  }
}

async function lookAgain(
  look: PollParts["look"],
  closing: AbortSignal,
): Promise<ReadonlyMap<string, Uint8Array> | undefined> {
  try {
    return await look();
  } catch (error) {
    if (!closing.aborted && PvbusError.is(error) && PASSING.includes(error.code)) return undefined;
    throw error;
  }
}

function* differences(
  before: ReadonlyMap<string, Uint8Array>,
  after: ReadonlyMap<string, Uint8Array>,
): Generator<RawEntry> {
  for (const key of before.keys()) if (!after.has(key)) yield { key, value: undefined };
  for (const [key, value] of after) {
    const old = before.get(key);
    if (old === undefined || Buffer.compare(old, value) !== 0) yield { key, value };
  }
}
