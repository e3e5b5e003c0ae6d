import { pvbusError } from "../errors.js";
import { MAX_TIMER_MS, onAbort } from "./abort.js";
import { Backoff } from "./backoff.js";
import type { Call } from "./call.js";
import { monotonicMs } from "./monotonic.js";
import { Notifier } from "./notifier.js";

/** Pairs that are compared at a stretch. */
const PAIRS_PER_STEP = 256;

/** What is watched: where changes are found, and what tells that there are some. */
export interface WatchSource<C> {
  /**
   * Yields what has changed since the last look. The first one finds out what is there: what it yields is dropped.
   * @throws what ends the watch, unless the pace lets it pass
   */
  look(call: Call): AsyncIterable<C>;
  /** Has `changed` called after each change, from now on; returns what ends that. Without it the watch looks again and again. */
  listen?(changed: () => void): () => void;
}

/** When a watch looks though nothing tells it to. */
export interface WatchPace {
  /** Time to the next look behind a change. */
  readonly firstMs: number;
  /** Longest time to the next look while nothing changes. */
  readonly longestMs: number;
  /** Each wait is so many times the one before. Default 1.5. */
  readonly factor?: number | undefined;
  /** So many times as long as a look took the watch waits at least. Default 0. */
  readonly share?: number | undefined;
}

/** How a watch goes on. */
export interface WatchSettings {
  /**
   * Called once when every later change will be seen. Without it the watch goes on with a source that was looked at already: it
   * waits first, and drops nothing.
   */
  readonly ready?: (() => void) | undefined;
  /** Fires when the store closes. */
  readonly closing: AbortSignal;
  /** For sources that tell of nothing, or not of everything. */
  readonly pace?: WatchPace | undefined;
  /** Whether what a look threw may be over soon: then the next one is waited for. Default: never. */
  readonly isPassing?: ((error: unknown) => boolean) | undefined;
}

/**
 * Yields changes until the call is over; then it returns without an error. Whatever the source listens to is let go at that
 * moment, though the consumer may never come back for more.
 * @throws PvbusError `ERR_DISCONNECTED` when the store closes, and what a look throws
 */
export async function* watchLoop<C>(
  source: WatchSource<C>,
  settings: WatchSettings,
  call: Call,
): AsyncGenerator<C, void, undefined> {
  const { ready, closing } = settings;
  if (call.isOver) return;
  const news = new Notifier();
  let seen = news.count;
  // Armed before the first look: nothing falls between.
  const listening = [source.listen?.(news.notify)];
  const end = (): void => {
    for (const forget of listening.splice(0)) forget?.();
    news.notify();
  };
  listening.push(call.onceOver(end), onAbort(closing, end));
  try {
    if (ready !== undefined) {
      for await (const _ of source.look(call));
      ready();
    }
    const { pace } = settings;
    const backoff = pace && new Backoff({ ...pace, factor: pace.factor ?? 1.5, jitter: 0 });
    // Where nothing tells of changes, a timer keeps the process alive for whoever waits.
    const idleMs = source.listen === undefined ? MAX_TIMER_MS : Number.POSITIVE_INFINITY;
    let leastMs = 0;
    for (;;) {
      const ms = backoff === undefined ? idleMs : Math.max(backoff.next(), leastMs);
      await news.waitAtMost(ms, call, "a change", seen);
      if (closing.aborted) throw closedError();
      if (call.isOver) return;
      seen = news.count;
      let isQuiet = true;
      let began = monotonicMs();
      try {
        for await (const change of source.look(call)) {
          isQuiet = false;
          const found = monotonicMs();
          yield change;
          // The consumer's time is none of the look's.
          began += monotonicMs() - found;
        }
      } catch (error) {
        if (closing.aborted || call.isOver || settings.isPassing?.(error) !== true) throw error;
      }
      leastMs = (monotonicMs() - began) * (pace?.share ?? 0);
      if (!isQuiet) backoff?.reset();
    }
  } catch (error) {
    if (!call.isEnd(error)) throw error;
    // A look that the end of the call interrupted is the end of the watch, not a failure.
    if (closing.aborted) throw closedError();
  } finally {
    end();
  }
}

function closedError(): Error {
  return pvbusError("ERR_DISCONNECTED", "the store was closed; open the bus again");
}

/** A state that is looked at as a whole. */
interface SnapshotSource<V, C> {
  /** Reads what is there, by name; undefined where that cannot be told at the moment: it counts as unchanged. */
  readonly snapshot: (call: Call) => Promise<ReadonlyMap<string, V> | undefined>;
  /** Makes a change. @param after undefined when it is gone @param before undefined when it was not there */
  readonly change: (name: string, after: V | undefined, before: V | undefined) => C;
  /** Whether two values of a name are the same. Default: the same bytes. */
  readonly isSame?: ((before: V, after: V) => boolean) | undefined;
}

/**
 * Watches states by comparing each with what it was at the last look; what is gone is told before what is new. Add `listen`
 * where something tells of changes: `{ ...bySnapshots(state), listen }`.
 */
export function bySnapshots<V, C>(...states: readonly SnapshotSource<V, C>[]): WatchSource<C> {
  const last = states.map((): ReadonlyMap<string, V> | undefined => undefined);
  async function* look(call: Call): AsyncGenerator<C, void, undefined> {
    for (const [at, state] of states.entries()) {
      const before = last[at];
      const after = await state.snapshot(call);
      if (after === undefined && before !== undefined) continue;
      const now = after ?? new Map<string, V>();
      last[at] = now;
      if (before !== undefined) yield* differences(state, before, now, call);
    }
  }
  return { look };
}

async function* differences<V, C>(
  { change, isSame = sameBytes }: SnapshotSource<V, C>,
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>,
  call: Call,
): AsyncGenerator<C, void, undefined> {
  let done = 0;
  const step = (): Promise<void> | undefined =>
    ++done % PAIRS_PER_STEP === 0 ? call.turn("a change") : undefined;
  for (const [name, value] of before) {
    const turn = step();
    if (turn !== undefined) await turn;
    if (!after.has(name)) yield change(name, undefined, value);
  }
  for (const [name, value] of after) {
    const turn = step();
    if (turn !== undefined) await turn;
    const old = before.get(name);
    if (old === undefined || !isSame(old, value)) yield change(name, value, old);
  }
}

/** Watches what tells of each change itself: every one is yielded, in its order. @param follow returns what ends it */
export function byEvents<C>(follow: (push: (change: C) => void) => () => void): WatchSource<C> {
  let changes: C[] = [];
  return {
    listen: (changed) =>
      follow((change) => {
        changes.push(change);
        changed();
      }),
    async *look() {
      while (changes.length > 0) {
        const batch = changes;
        changes = [];
        yield* batch;
      }
    },
  };
}

/** Watches what never changes. */
export const UNCHANGING: WatchSource<never> = {
  async *look() {
    // There is nothing to be seen.
  },
};

function sameBytes(before: unknown, after: unknown): boolean {
  return Buffer.compare(before as Uint8Array, after as Uint8Array) === 0;
}
