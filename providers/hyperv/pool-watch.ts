import { type FSWatcher, watch } from "node:fs";
import type { Call } from "../../src/bus/call.js";
import { PvbusError, pvbusError } from "../../src/bus/errors.js";
import type { Logger } from "../../src/host/host.js";
import type { Pool, PoolPair } from "./pool.js";
import { isMissing } from "./pool-errors.js";
import { poolFileName } from "./pool-places.js";

/** How often the files are looked at where the file system gives no notifications. */
const POLL_MS = 1_000;

/** What a watch needs. */
export interface WatchParts {
  /** The pools' directory. */
  readonly directory: string;
  /** The pools to follow. */
  readonly pools: readonly Pool[];
  /** Beginning of the keys to follow. */
  readonly keyPrefix: string;
  /** Told when the watch has to poll. */
  readonly logger: Logger;
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
 * Yields what changes in the pools, by comparing consistent states whenever the file system tells of a change. Ends
 * when the call is over; a pool file that is missing for a while (the daemon restarts) counts as unchanged.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what reading a pool throws
 */
export async function* watchPools(
  parts: WatchParts,
  call: Call,
): AsyncGenerator<PoolChange, void, undefined> {
  if (call.signal?.aborted || call.remainingMs === 0) return;
  const bell = new Bell();
  const files = new Set(parts.pools.map((pool) => poolFileName(pool.info.number)));
  // The notification is armed before the first state is read: nothing falls between.
  const stop = notify(parts, files, () => bell.ring());
  // The consumer may never come back for more, so the end releases the handles by itself.
  let ended = false;
  const end = (): void => {
    ended = true;
    stop();
    clearTimeout(deadline);
    call.signal?.removeEventListener("abort", end);
    parts.closing.removeEventListener("abort", end);
    bell.ring();
  };
  const deadline = call.remainingMs < 2 ** 31 ? setTimeout(end, call.remainingMs) : undefined;
  call.signal?.addEventListener("abort", end);
  parts.closing.addEventListener("abort", end);
  try {
    const states = new Map<Pool, Map<string, PoolPair>>();
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
        yield* differences(pool, before, after);
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

async function stateOf(pool: Pool, prefix: string, call: Call): Promise<Map<string, PoolPair> | undefined> {
  try {
    return await pool.snapshot(prefix, call);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function* differences(
  pool: Pool,
  before: ReadonlyMap<string, PoolPair>,
  after: ReadonlyMap<string, PoolPair>,
): Generator<PoolChange> {
  for (const [name, { key }] of before) if (!after.has(name)) yield { pool, key, value: undefined };
  for (const [name, { key, value }] of after) {
    const old = before.get(name)?.value;
    if (old === undefined || Buffer.compare(old, value) !== 0) yield { pool, key, value };
  }
}

/** Arms the file system's notification for the directory, polling where there is none; gives what ends it. */
function notify(parts: WatchParts, files: ReadonlySet<string>, ring: () => void): () => void {
  let watcher: FSWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;
  const poll = (error: unknown): void => {
    watcher?.close();
    parts.logger.warn("no file notifications, looking once a second", { directory: parts.directory, error });
    timer ??= setInterval(ring, POLL_MS);
  };
  try {
    watcher = watch(parts.directory, (_event, name) => {
      if (name === null || files.has(name)) ring();
    });
    watcher.on("error", poll);
  } catch (error) {
    poll(error);
  }
  return () => {
    watcher?.close();
    clearInterval(timer);
  };
}
