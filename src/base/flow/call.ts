import { PvbusError, pvbusError } from "../errors.js";
import { MAX_TIMER_MS, onAbort, pause } from "./abort.js";
import { monotonicMs } from "./monotonic.js";
import { turns } from "./turn.js";

/** What every call of the API accepts. */
export interface CallOptions {
  /** Aborts the call: it rejects with `ERR_ABORTED`, the signal's reason as cause. */
  readonly signal?: AbortSignal | undefined;
  /** Longest time in milliseconds before the call rejects with `ERR_TIMEOUT`; `Infinity` waits for ever. */
  readonly timeoutMs?: number | undefined;
}

/** Default of {@link CallOptions.timeoutMs} where an operation has none of its own. */
export const DEFAULT_TIMEOUT_MS = 10_000;

/**
 * One running call as a provider sees it: its deadline and its signal.
 *
 * Duties of whoever receives one: call {@link Call.check} before each step that changes something, ask
 * {@link Call.turn} before each step of work that does not wait, and wait only through {@link Call.sleep},
 * {@link Call.within} or with {@link Call.remainingMs}.
 */
export class Call {
  /** The caller's signal. */
  readonly signal: AbortSignal | undefined;
  readonly #timeoutMs: number;
  #expiresAt: number;

  /**
   * @param options the caller's options, already complete
   * @throws TypeError when signal is no AbortSignal; RangeError when timeoutMs is negative or not a number
   */
  constructor(options: CallOptions = {}, defaultTimeoutMs: number = DEFAULT_TIMEOUT_MS) {
    const { signal, timeoutMs = defaultTimeoutMs } = options;
    if (signal !== undefined && !(signal instanceof AbortSignal))
      throw new TypeError("signal must be an AbortSignal");
    if (typeof timeoutMs !== "number" || !(timeoutMs >= 0)) {
      throw new RangeError("timeoutMs must be a number of milliseconds, zero or more");
    }
    this.signal = signal;
    this.#timeoutMs = timeoutMs;
    this.#expiresAt = monotonicMs() + timeoutMs;
  }

  /** Returns a call without a deadline. */
  static endless(signal?: AbortSignal): Call {
    return new Call({ signal, timeoutMs: Number.POSITIVE_INFINITY });
  }

  /** Milliseconds left, zero or more; `Infinity` without a deadline. */
  get remainingMs(): number {
    return Math.max(0, this.#expiresAt - monotonicMs());
  }

  /** When it is over, in milliseconds of a clock that never goes back; `Infinity` without a deadline. */
  get expiresAt(): number {
    return this.#expiresAt;
  }

  /** Whether the signal has fired or the deadline has passed. */
  get isOver(): boolean {
    return this.signal?.aborted === true || this.remainingMs === 0;
  }

  /** Whether an error says only that this call is over: the end of a watch, not a failure. */
  isEnd(error: unknown): boolean {
    return (
      this.isOver && PvbusError.is(error) && (error.code === "ERR_ABORTED" || error.code === "ERR_TIMEOUT")
    );
  }

  /**
   * Calls `action` once when the call is over, at once when it is; its timer keeps the process alive.
   * @returns what takes the action back
   */
  onceOver(action: () => void): () => void {
    let forget = (): void => undefined;
    const look = (): void => {
      forget();
      if (this.isOver) action();
      else forget = this.#atEnd(look);
    };
    look();
    return () => forget();
  }

  /** Lets the time limit begin again: for listings, whose consumer may take as long as it likes between two pages. */
  renew(): void {
    this.#expiresAt = monotonicMs() + this.#timeoutMs;
  }

  /**
   * To be asked before each step of synchronous work: checks the call, and gives the event loop its turn where this
   * process's calls have kept it for too long, so that timers fire and a signal is honoured within 10 ms, also while
   * the call waits for its turn.
   * @returns undefined when there is time left; else a promise to wait for before going on
   * @throws PvbusError as {@link Call.check}, at once or through the promise
   */
  turn(waitingFor?: string): Promise<void> | undefined {
    this.check(waitingFor);
    return turns.mayGoOn() ? undefined : this.#takeTurn(waitingFor);
  }

  /**
   * Throws when the call is over.
   * @throws PvbusError `ERR_ABORTED` after the signal fired, `ERR_TIMEOUT` after the deadline
   */
  check(waitingFor = "the operation"): void {
    if (this.signal?.aborted) {
      throw pvbusError("ERR_ABORTED", `aborted while waiting for ${waitingFor}`, {
        cause: this.signal.reason,
      });
    }
    if (this.#expiresAt <= monotonicMs()) {
      throw pvbusError(
        "ERR_TIMEOUT",
        `no end of ${waitingFor} within ${this.#timeoutMs} ms; try again or allow a longer timeoutMs`,
      );
    }
  }

  /**
   * Waits `ms` milliseconds, less when the deadline comes first.
   * @throws PvbusError `ERR_ABORTED` as soon as the signal fires, `ERR_TIMEOUT` at the deadline
   */
  async sleep(ms: number, waitingFor?: string): Promise<void> {
    const until = monotonicMs() + ms;
    do {
      this.check(waitingFor);
      // Rounded up, and looked at again: a timer may fire a fraction too early, which must not count as slept.
      await pause(Math.ceil(Math.min(until - monotonicMs(), this.remainingMs)), this.signal);
      this.check(waitingFor);
    } while (monotonicMs() < until);
  }

  /**
   * Waits for a promise that knows nothing of this call; it goes on by itself when the call is over first. A promise
   * that lives long keeps what waited for it: give each waiting one of its own.
   * @throws PvbusError `ERR_ABORTED` as soon as the signal fires, `ERR_TIMEOUT` at the deadline
   */
  async within<T>(promise: Promise<T>, waitingFor?: string): Promise<T> {
    const outcome = promise.then((value) => ({ value }));
    // When the call is over first, nobody else waits for the promise: its failure must not end the process.
    outcome.catch(() => undefined);
    for (;;) {
      this.check(waitingFor);
      let forget = (): void => undefined;
      const end = new Promise<undefined>((resolve) => {
        forget = this.#atEnd(() => resolve(undefined));
      });
      try {
        const first = await Promise.race([outcome, end]);
        if (first !== undefined) return first.value;
      } finally {
        forget();
      }
    }
  }

  /** By hand, since thousands of calls may wait here at a time. */
  #takeTurn(waitingFor: string | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const goOn = (): void => {
        forget();
        leave();
        try {
          this.check(waitingFor);
          resolve();
        } catch (error) {
          reject(error);
        }
      };
      const leave = turns.wait(goOn);
      const forget = this.#atEnd(goOn);
    });
  }

  /** Calls `action` when it is time to look for the end: a timer may fire too early, and the deadline may be moved. */
  #atEnd(action: () => void): () => void {
    const ms = this.remainingMs;
    const timer =
      ms === Number.POSITIVE_INFINITY ? undefined : setTimeout(action, Math.min(Math.ceil(ms), MAX_TIMER_MS));
    const forget = onAbort(this.signal, action);
    return () => {
      clearTimeout(timer);
      forget();
    };
  }
}
