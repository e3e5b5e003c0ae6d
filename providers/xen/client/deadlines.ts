import { monotonicMs } from "../../../src/base/flow/monotonic.js";

/** Milliseconds of deadlines that one timer serves: nobody is told later than that. */
const TICK_MS = 4;
/** A timer may fire a fraction too early. */
const LATE_MS = 1;
/** Longest delay that Node's timers take. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface Timed {
  /** In the time of {@link monotonicMs}; `Infinity` for none. Stays the same while it waits. */
  readonly deadline: number;
}

/** Those whose deadlines lie within the same few milliseconds. */
interface Tick<T> {
  readonly number: number;
  readonly items: Set<T>;
  timer?: NodeJS.Timeout;
}

/**
 * Tells of deadlines that have passed. However many wait, coming and going cost the same, and each deadline is looked at
 * once. Its timers do not keep the process alive.
 */
export class Deadlines<T extends Timed> {
  readonly #due: (item: T) => void;
  readonly #ticks = new Map<number, Tick<T>>();
  /** The one that was added to last: it stays though it is empty, since the next one will most likely use it. */
  #last: Tick<T> | undefined;

  /** @param due called for each item whose deadline has passed; it waits here no more */
  constructor(due: (item: T) => void) {
    this.#due = due;
  }

  add(item: T): void {
    if (item.deadline === Number.POSITIVE_INFINITY) return;
    const number = tickOf(item);
    const before = this.#last;
    const tick = before?.number === number ? before : (this.#ticks.get(number) ?? this.#begin(number));
    this.#last = tick;
    if (before !== tick && before?.items.size === 0) this.#drop(before);
    tick.items.add(item);
  }

  /** Takes one out; nothing happens when it does not wait here. */
  remove(item: T): void {
    const number = tickOf(item);
    const tick = this.#last?.number === number ? this.#last : this.#ticks.get(number);
    if (tick?.items.delete(item) === true && tick.items.size === 0 && tick !== this.#last) this.#drop(tick);
  }

  clear(): void {
    for (const { timer } of this.#ticks.values()) clearTimeout(timer);
    this.#ticks.clear();
    this.#last = undefined;
  }

  #begin(number: number): Tick<T> {
    const tick: Tick<T> = { number, items: new Set() };
    this.#ticks.set(number, tick);
    this.#arm(tick);
    return tick;
  }

  #arm(tick: Tick<T>): void {
    const ms = tick.number * TICK_MS - monotonicMs() + LATE_MS;
    tick.timer = setTimeout(() => this.#fire(tick), Math.min(Math.max(ms, 0), MAX_TIMER_MS)).unref();
  }

  #fire(tick: Tick<T>): void {
    if (monotonicMs() < tick.number * TICK_MS) {
      this.#arm(tick);
      return;
    }
    this.#drop(tick);
    for (const item of tick.items) this.#due(item);
  }

  #drop(tick: Tick<T>): void {
    clearTimeout(tick.timer);
    this.#ticks.delete(tick.number);
    if (this.#last === tick) this.#last = undefined;
  }
}

function tickOf({ deadline }: Timed): number {
  return Math.ceil(deadline / TICK_MS);
}
