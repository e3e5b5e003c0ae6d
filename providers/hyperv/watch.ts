import { PvbusError, pvbusError } from "../../src/base/errors.js";
import { onAbort } from "../../src/base/flow/abort.js";
import type { Call } from "../../src/base/flow/call.js";
import { isMissing, type Pool, type PoolPair, type PoolTransport } from "./transport/pool.js";

/** What a watch needs. */
export interface WatchParts {
  /** What tells of changes. */
  readonly transport: Pick<PoolTransport, "notify">;
  /** The pools to follow. */
  readonly pools: readonly Pool[];
  /** Beginning of the keys to follow. */
  readonly keyPrefix: string;
  /** Called when every later change will be seen. */
  readonly ready: () => void;
  /** Aborts when the store closes. */
  readonly closing: AbortSignal;
}

/** One change in a pool; without a value the key is gone. */
export interface PoolChange {
  /** Where. */
  readonly pool: Pool;
  /** Key as text. */
  readonly key: string;
  /** New value. */
  readonly value: Uint8Array | undefined;
}

/** Wakes a waiter; wakes that come while nobody waits are remembered. */
class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  async wait(): Promise<void> {
    if (!this.#rung) await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = undefined;
    this.#rung = false;
  }
}

/**
 * Yields what changes in the pools, by comparing consistent states whenever the operating system tells of a change. Ends
 * when the call is over; a pool that is missing for a while (the daemon restarts) counts as unchanged.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what reading a pool throws
 */
export async function* watchPools(
  parts: WatchParts,
  call: Call,
): AsyncGenerator<PoolChange, void, undefined> {
  if (call.signal?.aborted || call.remainingMs === 0) return;
  const bell = new Bell();
  // The notification is armed before the first state is read: nothing falls between.
  const stop = parts.transport.notify(parts.pools, () => bell.ring());
  // The consumer may never come back for more, so the end releases the handles by itself.
  let ended = false;
  let forget = (): void => undefined;
  const end = (): void => {
    ended = true;
    stop();
    clearTimeout(deadline);
    forget();
    bell.ring();
  };
  const deadline = call.remainingMs < 2 ** 31 ? setTimeout(end, call.remainingMs) : undefined;
  const listening = [onAbort(call.signal, end), onAbort(parts.closing, end)];
  forget = () => {
    for (const each of listening) each();
  };
  try {
    const states = new Map<Pool, ReadonlyMap<string, PoolPair>>();
    for (const pool of parts.pools)
      states.set(pool, (await stateOf(pool, parts.keyPrefix, call)) ?? new Map());
    parts.ready();
    for (;;) {
      await bell.wait();
      if (parts.closing.aborted)
        throw pvbusError("ERR_DISCONNECTED", "the store was closed; open the bus again");
      if (ended) return;
      for (const [pool, before] of states) {
        const after = await stateOf(pool, parts.keyPrefix, call);
        if (after === undefined) continue;
        states.set(pool, after);
        yield* differences(pool, before, after, call);
      }
    }
  } catch (error) {
    // A reading that the end of the call interrupted is the end of the watch, not a failure.
    const over = ended || call.signal?.aborted === true || call.remainingMs === 0;
    if (over && PvbusError.is(error) && (error.code === "ERR_ABORTED" || error.code === "ERR_TIMEOUT"))
      return;
    throw error;
  } finally {
    end();
  }
}

async function stateOf(
  pool: Pool,
  prefix: string,
  call: Call,
): Promise<ReadonlyMap<string, PoolPair> | undefined> {
  try {
    return await pool.snapshot(prefix, call);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Pairs that are compared at a stretch. */
const PAIRS_PER_STEP = 256;

async function* differences(
  pool: Pool,
  before: ReadonlyMap<string, PoolPair>,
  after: ReadonlyMap<string, PoolPair>,
  call: Call,
): AsyncGenerator<PoolChange, void, undefined> {
  let done = 0;
  const step = (): Promise<void> | undefined => (++done % PAIRS_PER_STEP === 0 ? call.turn() : undefined);
  for (const [name, { key }] of before) {
    const turn = step();
    if (turn !== undefined) await turn;
    if (!after.has(name)) yield { pool, key, value: undefined };
  }
  for (const [name, { key, value }] of after) {
    const turn = step();
    if (turn !== undefined) await turn;
    const old = before.get(name)?.value;
    if (old === undefined || Buffer.compare(old, value) !== 0) yield { pool, key, value };
  }
}
