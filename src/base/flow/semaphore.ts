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

  /**
   * Takes a place.
   * @returns undefined when there was one; else a promise to wait for
   * @throws PvbusError `ERR_ABORTED`, `ERR_TIMEOUT`, at once or through the promise; then no place is taken
   */
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
