import type { Call } from "./call.js";
import { WaitingLine } from "./waiting-line.js";

/** Lets so many in at a time, the others in the order in which they came. */
export class Semaphore {
  readonly #places: number;
  #free: number;
  readonly #waiting = new WaitingLine<() => void>();

  constructor(places: number) {
    this.#places = places;
    this.#free = places;
  }

  get busy(): boolean {
    return this.#free < this.#places;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Takes a place: at once, else through the promise to wait for; none is taken when the call ends first, which throws. */
  enter(call: Call, waitingFor: string): Promise<void> | undefined {
    call.check(waitingFor);
    if (this.#free === 0) return this.#turn(call, waitingFor);
    this.#free--;
    return undefined;
  }

  /** Returns the place back: it goes to who waits longest, so that nobody slips in between. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }

  async #turn(call: Call, waitingFor: string): Promise<void> {
    let isIn = false;
    let enter = (): void => undefined;
    const turn = new Promise<void>((resolve) => {
      enter = () => {
        isIn = true;
        resolve();
      };
    });
    this.#waiting.push(enter);
    try {
      await call.within(turn, waitingFor);
    } catch (error) {
      this.#waiting.remove(enter);
      if (isIn) this.leave();
      throw error;
    }
  }
}

/**
 * Runs one piece of work after the other, in the order in which they came; remembers nothing of what is done. Work that
 * waits for other work of the same queue waits for itself.
 */
export class SerialQueue {
  readonly #place = new Semaphore(1);

  get busy(): boolean {
    return this.#place.busy;
  }

  /**
   * Runs the work when its turn has come; at once, before this returns, when nothing runs.
   * @throws PvbusError `ERR_TIMEOUT` or `ERR_ABORTED` before its turn (the work is not begun then), and what the work throws
   */
  async run<T>(call: Call, waitingFor: string, work: () => T | Promise<T>): Promise<T> {
    const turn = this.#place.enter(call, waitingFor);
    if (turn !== undefined) await turn;
    try {
      return await work();
    } finally {
      this.#place.leave();
    }
  }

  /** For work that the call cannot end: the caller waits no longer than its call, what is behind it until the work has ended. */
  async runWithin<T>(
    call: Call,
    waitingFor: string,
    waitingForEnd: string,
    work: () => Promise<T>,
  ): Promise<T> {
    const turn = this.#place.enter(call, waitingFor);
    if (turn !== undefined) await turn;
    let running: Promise<T>;
    try {
      running = work();
    } catch (error) {
      this.#place.leave();
      throw error;
    }
    const leave = (): void => this.#place.leave();
    running.then(leave, leave);
    return call.within(running, waitingForEnd);
  }
}

/** A serial queue for each key; keys that nobody uses cost nothing. */
export class KeyedQueues {
  readonly #queues = new Map<string, SerialQueue>();

  get size(): number {
    return this.#queues.size;
  }

  has(key: string): boolean {
    return this.#queues.has(key);
  }

  /** Runs the work behind what was asked for the same key before. @throws as {@link SerialQueue.run} */
  async run<T>(key: string, call: Call, waitingFor: string, work: () => T | Promise<T>): Promise<T> {
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = new SerialQueue();
      this.#queues.set(key, queue);
    }
    try {
      return await queue.run(call, waitingFor, work);
    } finally {
      // Who gives up while another one works must not take its queue away.
      if (!queue.busy) this.#queues.delete(key);
    }
  }
}
