import type { Call } from "../../src/base/flow/call.js";
import { bySnapshots, watchLoop } from "../../src/base/flow/watch-loop.js";
import { type Pool, type PoolPair, type PoolTransport, unlessMissing } from "./transport/pool.js";

/** What a watch needs. */
export interface WatchParts {
  /** What reports changes. */
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
export interface WatchedChange {
  readonly pool: Pool;
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/**
 * Yields what changes in the pools, by comparing consistent states whenever the operating system reports a change. Ends
 * when the call is over; a pool that is missing for a while (the daemon restarts) counts as unchanged.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what reading a pool throws
 */
export function watchPools(
  { transport, pools, keyPrefix, ready, closing }: WatchParts,
  call: Call,
): AsyncGenerator<WatchedChange, void, undefined> {
  const source = bySnapshots(
    ...pools.map((pool) => ({
      snapshot: (call: Call) => unlessMissing(() => pool.snapshot(keyPrefix, call)),
      change: (_name: string, after: PoolPair | undefined, before: PoolPair | undefined): WatchedChange => ({
        pool,
        key: ((after ?? before) as PoolPair).key,
        value: after?.value,
      }),
      isSame: (before: PoolPair, after: PoolPair) => Buffer.compare(before.value, after.value) === 0,
    })),
  );
  return watchLoop(
    { ...source, listen: (changed) => transport.notify(pools, changed) },
    { ready, closing },
    call,
  );
}
