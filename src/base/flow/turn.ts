import { monotonicMs } from "./monotonic.js";
import { WaitingLine } from "./waiting-line.js";

interface TurnSettings {
  /** Longest stretch of our own work between two turns of the event loop. */
  readonly budgetMs: number;
  /** What one caller gets of that at a time while others wait: so no call stands still for long beside many busy loops. */
  readonly sliceMs: number;
  /** A clock that never goes back, in milliseconds. */
  readonly now?: () => number;
}

/** Shares the event loop between the world and all who work in steps of our own. */
export class Turns {
  readonly #settings: Required<TurnSettings>;
  /** When the event loop must have its turn; undefined while nothing of ours has run in the present one. */
  #turnEnd: number | undefined;
  /** When the next one who waits goes on. */
  #sliceEnd = 0;
  /** Who waits to go on, in the order of coming. */
  readonly #waiting = new WaitingLine<() => void>();
  #passing: Promise<void> | undefined;

  constructor(settings: TurnSettings) {
    this.#settings = { now: monotonicMs, ...settings };
  }

  /**
   * Reports whether there is time left to work on before the event loop, or somebody else who waits, must have a turn.
   * Promises that settle at once never let a timer fire, so whatever may be called in a loop asks here.
   */
  mayGoOn(): boolean {
    if (this.#turnEnd !== undefined) return this.#settings.now() < this.#sliceEnd;
    this.#begin();
    return true;
  }

  /**
   * Calls `go` when the event loop has had its turn and everybody who asked before has had a slice of time. They go on one
   * after the other, each when the one before waits again or has nothing to do: all at once would add up their steps.
   * @returns what gives the place up
   */
  wait(go: () => void): () => void {
    if (this.#turnEnd === undefined) this.#begin();
    const place = (): void => go();
    this.#waiting.push(place);
    return () => this.#waiting.remove(place);
  }

  /**
   * Returns the event loop its turn where that is due, past everybody who waits for more: for a call that is to fail at once,
   * and whose caller may go on calling for ever.
   */
  loopIfDue(): Promise<void> | undefined {
    if (this.mayGoOn()) return undefined;
    this.#passing ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#passing = undefined;
        resolve();
      });
    });
    return this.#passing;
  }

  #begin(): void {
    this.#turnEnd = this.#settings.now() + this.#settings.budgetMs;
    this.#sliceEnd = this.#turnEnd;
    setImmediate(() => this.#afterTurn());
  }

  /** Timers, sockets and whoever is no business of ours have had their turn. */
  #afterTurn(): void {
    this.#turnEnd = undefined;
    if (this.#waiting.length === 0) return;
    this.#begin();
    this.#release();
  }

  /** Lets the first of those who wait go on, and the next one as soon as it waits again. */
  #release(): void {
    const now = this.#settings.now();
    if (this.#turnEnd === undefined || now >= this.#turnEnd) return;
    const first = this.#waiting.shift();
    if (first === undefined) return;
    this.#sliceEnd =
      this.#waiting.length === 0 ? this.#turnEnd : Math.min(this.#turnEnd, now + this.#settings.sliceMs);
    first();
    // A tick that is asked for by a microtask runs when no microtask is left: when the first one waits again.
    queueMicrotask(() => process.nextTick(() => this.#release()));
  }
}

/** This process's. The rule is 10 ms for a stretch of work; the rest is one step's room. */
export const turns = new Turns({ budgetMs: 4, sliceMs: 0.5 });

/** To be asked before each step of at most a few milliseconds; undefined when there is time left, else to be waited for. */
export function fairTurn(): Promise<void> | undefined {
  return turns.mayGoOn() ? undefined : new Promise((resolve) => void turns.wait(resolve));
}

/** Runs a call of the API to its end; one that fails at once gives the event loop its turn before it does. */
export async function fairly<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await turns.loopIfDue();
    throw error;
  }
}
