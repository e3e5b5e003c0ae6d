import type { Call } from "./call.js";
import { SerialQueue } from "./serial-queue.js";

/** A serial queue for each key; keys that nobody uses cost nothing. */
export class KeyedQueues {
  readonly #queues = new Map<string, SerialQueue>();
  readonly #maxWaiting: number | undefined;

  /** @param maxWaiting how many may wait for one key */
  constructor(maxWaiting?: number) {
    this.#maxWaiting = maxWaiting;
  }

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
      queue = new SerialQueue(this.#maxWaiting);
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
