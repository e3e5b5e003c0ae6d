import { pvbusError } from "../errors.js";
import type { Call } from "./call.js";
import { Semaphore } from "./semaphore.js";

/**
 * Runs one piece of work after the other, in the order in which they came; remembers nothing of what is done. Work that
 * waits for other work of the same queue waits for itself.
 */
export class SerialQueue {
  readonly #place = new Semaphore(1);
  readonly #maxWaiting: number;

  /** @param maxWaiting how many may wait; whoever comes then is refused */
  constructor(maxWaiting: number = Number.POSITIVE_INFINITY) {
    this.#maxWaiting = maxWaiting;
  }

  get busy(): boolean {
    return this.#place.busy;
  }

  /**
   * Runs the work when its turn has come; at once, before this returns, when nothing runs.
   * @throws PvbusError `ERR_TIMEOUT` or `ERR_ABORTED` before its turn, `ERR_BUSY` when too many wait (the work is not begun
   *   then), and what the work throws
   */
  async run<T>(call: Call, waitingFor: string, work: () => T | Promise<T>): Promise<T> {
    const turn = this.#enter(call, waitingFor);
    if (turn !== undefined) await turn;
    try {
      return await work();
    } finally {
      this.#place.leave();
    }
  }

  /**
   * As {@link SerialQueue.run}, for work that the call cannot end: the caller waits no longer than its call, while what is
   * behind it waits until the work has ended.
   */
  async runWithin<T>(
    call: Call,
    waitingFor: string,
    waitingForEnd: string,
    work: () => Promise<T>,
  ): Promise<T> {
    const turn = this.#enter(call, waitingFor);
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

  #enter(call: Call, waitingFor: string): Promise<void> | undefined {
    const { busy, waiting } = this.#place;
    if (busy && waiting >= this.#maxWaiting) {
      // Whose time is over is told that, not that there is no room.
      call.check(waitingFor);
      throw pvbusError("ERR_BUSY", `${waiting} already wait for ${waitingFor}; try again later`);
    }
    return this.#place.enter(call, waitingFor);
  }
}
