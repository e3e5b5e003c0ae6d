import type { Call } from "../../src/bus/call.js";
import { WaitingLine } from "../../src/bus/waiting-line.js";

/** Lets so many in at a time, the others in the order in which they came. */
export class Semaphore {
  #free: number;
  readonly #waiting = new WaitingLine<() => void>();

  /** @param places how many may be in */
  constructor(places: number) {
    this.#free = places;
  }

  /**
   * Waits for a place.
   * @throws PvbusError `ERR_ABORTED`, `ERR_TIMEOUT`; then no place is taken
   */
  async enter(call: Call, waitingFor: string): Promise<void> {
    if (this.#free > 0) {
      this.#free--;
      return;
    }
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

  /** Gives the place back. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}
