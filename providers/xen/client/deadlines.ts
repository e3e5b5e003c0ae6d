/** Milliseconds of deadlines that one timer serves: nobody is told later than that. */
const TICK_MS = 4;
/** A timer may fire a fraction too early. */
const LATE_MS = 1;
/** Longest delay that Node's timers take. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What has a deadline. */
export interface Timed {
  /** In the time of `performance.now()`; `Infinity` for none. */
  readonly deadline: number;
  /** Where it waits for its deadline. */
  tick: Tick | undefined;
}

/** Those whose deadlines lie within the same few milliseconds. */
export interface Tick {
  /** Takes one out. */
  remove(item: Timed): void;
}

/**
 * Tells of deadlines that have passed. However many wait, coming and going cost the same, and each deadline is looked at
 * once. Its timers do not keep the process alive.
 */
export class Deadlines<T extends Timed> {
  readonly #due: (item: T) => void;
  readonly #ticks = new Map<number, OneTick>();
  /** The one that was added to last: it stays though it is empty, since the next one will most likely use it. */
  #last: OneTick | undefined;
  readonly #emptied = (tick: OneTick): void => {
    if (tick !== this.#last) this.#drop(tick);
  };

  /** @param due called for each item whose deadline has passed; it waits here no more */
  constructor(due: (item: T) => void) {
    this.#due = due;
  }

  /** Adds one; its {@link Timed.tick} takes it out again. */
  add(item: T): void {
    const { deadline } = item;
    if (deadline === Number.POSITIVE_INFINITY) return;
    const number = Math.ceil(deadline / TICK_MS);
    let tick = this.#last;
    if (tick?.number !== number) {
      tick = this.#ticks.get(number) ?? this.#begin(number);
      const before = this.#last;
      this.#last = tick;
      if (before?.items.size === 0) this.#drop(before);
    }
    tick.items.add(item);
    item.tick = tick;
  }

  /** Forgets all. */
  clear(): void {
    for (const { timer } of this.#ticks.values()) clearTimeout(timer);
    this.#ticks.clear();
    this.#last = undefined;
  }

  #begin(number: number): OneTick {
    const tick = new OneTick(number, this.#emptied);
    this.#ticks.set(number, tick);
    this.#arm(tick);
    return tick;
  }

  #arm(tick: OneTick): void {
    const ms = tick.number * TICK_MS - performance.now() + LATE_MS;
    tick.timer = setTimeout(() => this.#fire(tick), Math.min(Math.max(ms, 0), MAX_TIMER_MS)).unref();
  }

  #fire(tick: OneTick): void {
    if (performance.now() < tick.number * TICK_MS) {
      this.#arm(tick);
      return;
    }
    this.#drop(tick);
    for (const item of tick.items) {
      item.tick = undefined;
      this.#due(item as T);
    }
  }

  #drop(tick: OneTick): void {
    clearTimeout(tick.timer);
    this.#ticks.delete(tick.number);
    if (this.#last === tick) this.#last = undefined;
  }
}

class OneTick implements Tick {
  readonly number: number;
  readonly items = new Set<Timed>();
  timer: NodeJS.Timeout | undefined;
  readonly #emptied: (tick: OneTick) => void;

  constructor(number: number, emptied: (tick: OneTick) => void) {
    this.number = number;
    this.#emptied = emptied;
  }

  remove(item: Timed): void {
    this.items.delete(item);
    if (this.items.size === 0) this.#emptied(this);
  }
}
