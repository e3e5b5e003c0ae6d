import type { Call } from "./call.js";
import { Semaphore } from "./semaphore.js";

/**
 * Runs one piece of work after the other, in the order in which they came; remembers nothing of what is done. Work that
 * waits for other work of the same queue waits for itself.
 */
export class SerialQueue {
  readonly #place = new Semaphore(1);

  /** Whether anything runs. */
  get busy(): boolean {
    return this.#place.busy;
  }

  /**
   * Runs the work when its turn has come.
   * @param waitingFor what it waits for, in words
   * @throws PvbusError `ERR_TIMEOUT` or `ERR_ABORTED` before its turn (the work is not begun), and what the work throws
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
}
