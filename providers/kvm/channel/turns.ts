import type { Call } from "../../../src/bus/call.js";

/** Lets one work at a time, in the order of coming. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /** Runs work in its turn. A call that ends before its turn rejects and leaves the turn to the next. */
  async take<T>(call: Call, waitingFor: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last;
    let done = (): void => undefined;
    const mine = new Promise<void>((resolve) => {
      done = resolve;
    });
    this.#last = before.then(() => mine);
    try {
      await call.within(before, waitingFor);
      return await work();
    } finally {
      done();
    }
  }
}
