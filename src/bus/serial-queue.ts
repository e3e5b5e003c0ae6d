import type { Call } from "./call.js";
import { WaitingLine } from "./waiting-line.js";

/**
 * Runs one piece of work after the other, in the order in which they came; remembers nothing of what is done. Work that
 * waits for other work of the same queue waits for itself.
 */
export class SerialQueue {
  readonly #waiting = new WaitingLine<() => void>();
  #busy = false;

  /** Whether anything runs. */
  get busy(): boolean {
    return this.#busy;
  }

  /**
   * Runs the work when its turn has come.
   * @param waitingFor what it waits for, in words
   * @throws PvbusError `ERR_TIMEOUT` or `ERR_ABORTED` before its turn (the work is not begun), and what the work throws
   */
  async run<T>(call: Call, waitingFor: string, work: () => T | Promise<T>): Promise<T> {
    if (this.#busy) await this.#turn(call, waitingFor);
    else call.check(waitingFor);
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#next();
    }
  }

  /** Resolves when what was asked for so far is done. */
  async idle(): Promise<void> {
    if (!this.#busy) return;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#next();
  }

  async #turn(call: Call, waitingFor: string): Promise<void> {
    let granted = false;
    let grant = (): void => undefined;
    const mine = new Promise<void>((resolve) => {
      grant = () => {
        granted = true;
        resolve();
      };
    });
    this.#waiting.push(grant);
    try {
      await call.within(mine, waitingFor);
    } catch (error) {
      this.#waiting.remove(grant);
      if (granted) this.#next();
      throw error;
    }
  }

  /** The queue stays busy while it is handed on, so that nobody slips in between. */
  #next(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#busy = false;
    else next();
  }
}
