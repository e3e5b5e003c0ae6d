import { MAX_TIMER_MS } from "./abort.js";
import type { Call } from "./call.js";
import { WaitingLine } from "./waiting-line.js";

/**
 * Wakes whoever waits for something to happen. No wake-up gets lost: who looks at the state first and waits then, without
 * an `await` between them, is woken by whatever comes later; who has to wait in between remembers {@link Notifier.count}
 * before it looks and waits from there.
 */
export class Notifier {
  readonly #waiting = new WaitingLine<() => void>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Wakes all who wait, in the order in which they came. Work of theirs begins after this has returned. */
  readonly notify = (): void => {
    this.#count++;
    for (const wake of this.#waiting.clear()) wake();
  };

  /** Waits for the next notification; what was notified since a {@link Notifier.count} counts. @throws at the call's end */
  async wait(call: Call, waitingFor?: string, since = this.#count): Promise<void> {
    await this.waitAtMost(Number.POSITIVE_INFINITY, call, waitingFor, since);
  }

  /** The same, no longer than `ms` milliseconds. @returns whether it came; false: the time has passed */
  async waitAtMost(ms: number, call: Call, waitingFor?: string, since = this.#count): Promise<boolean> {
    call.check(waitingFor);
    if (this.#count !== since) return true;
    let wake = (): void => undefined;
    let timer: NodeJS.Timeout | undefined;
    const woken = new Promise<boolean>((resolve) => {
      wake = () => resolve(true);
      if (ms <= MAX_TIMER_MS) timer = setTimeout(() => resolve(false), Math.ceil(ms));
    });
    this.#waiting.push(wake);
    try {
      return await call.within(woken, waitingFor);
    } finally {
      clearTimeout(timer);
      this.#waiting.remove(wake);
    }
  }
}
