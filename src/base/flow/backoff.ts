import { pause } from "./abort.js";
import type { Call } from "./call.js";

/** How the pauses grow. */
interface BackoffSettings {
  readonly firstMs: number;
  readonly longestMs: number;
  /** Each pause is so many times the one before. Default 2. */
  readonly factor?: number;
  /** Share of a pause that chance takes away: who was turned away together comes back at different times. Default 0.2. */
  readonly jitter?: number;
  /** Stands in for chance in tests. */
  readonly random?: () => number;
}

/** Pauses between attempts, each longer than the one before. */
export class Backoff {
  readonly #settings: Required<BackoffSettings>;
  #attempts = 0;
  #ms: number;

  constructor(settings: BackoffSettings) {
    this.#settings = { factor: 2, jitter: 0.2, random: Math.random, ...settings };
    this.#ms = settings.firstMs;
  }

  /** How many pauses there were since the beginning or {@link Backoff.reset}. */
  get attempts(): number {
    return this.#attempts;
  }

  /** Returns the next pause in milliseconds. */
  next(): number {
    const { longestMs, factor, jitter, random } = this.#settings;
    const ms = Math.min(this.#ms, longestMs);
    this.#ms = Math.min(ms * factor, longestMs);
    this.#attempts++;
    return ms * (1 - jitter * random());
  }

  /** Begins with the first pause again, since something worked. */
  reset(): void {
    this.#attempts = 0;
    this.#ms = this.#settings.firstMs;
  }

  /** Sleeps for the next pause, within the call. @throws as {@link Call.sleep} */
  async sleep(call: Call, waitingFor?: string): Promise<void> {
    await call.sleep(this.next(), waitingFor);
  }

  /** Sleeps for the next pause, less when one of the signals fires: for loops that look at their signals by themselves. */
  async rest(...signals: readonly (AbortSignal | undefined)[]): Promise<void> {
    await pause(this.next(), ...signals);
  }
}
