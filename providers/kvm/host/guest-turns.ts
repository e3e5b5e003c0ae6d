import type { Turns } from "../../../src/bus/turn.js";
import { WaitingLine } from "../../../src/bus/waiting-line.js";

/**
 * One guest's share of the host's time: however many connections it has, they stand in a line of their own, which has one place
 * among those of the other guests. To be asked before each step of less than a millisecond.
 */
export class GuestTurns {
  readonly #turns: Turns;
  readonly #waiting = new WaitingLine<() => void>();

  /** @param turns those of the whole host */
  constructor(turns: Turns) {
    this.#turns = turns;
  }

  /** Tells when to go on. @returns undefined when there is time left; else a promise to wait for */
  next(): Promise<void> | undefined {
    if (this.#turns.mayGoOn()) return undefined;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#waiting.length === 1) this.#stand();
    });
  }

  #stand(): void {
    this.#turns.wait(() => {
      const first = this.#waiting.shift();
      if (this.#waiting.length > 0) this.#stand();
      first?.();
    });
  }
}
