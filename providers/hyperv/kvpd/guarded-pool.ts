import { PvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import type { Logger } from "../../../src/base/host/host.js";
import type { ServedPool } from "./served-pool.js";

/** How long a request that only reads waits for the repair that a writer is in the way of. */
const GLANCE_MS = 100;
/** How long it is left alone afterwards: each record of a listing is such a request. */
const GLANCE_PAUSE_MS = 1_000;

type Verb = "read" | "change";

/**
 * One pool among several that the daemon serves: what is wrong with it is its own affair. Each request tries again, and a
 * failure is logged when it begins and when it is over, not for every request that it costs.
 */
export class GuardedPool {
  readonly #pool: ServedPool;
  readonly #name: string;
  readonly #logger: Logger;
  readonly #failures = new Map<Verb, string>();
  #recovered = false;
  #leaveUntil = 0;

  /** @param pool what is served @param name of the pool, for messages */
  constructor(pool: ServedPool, name: string, logger: Logger) {
    this.#pool = pool;
    this.#name = name;
    this.#logger = logger;
  }

  /** Makes the file if need be, and repairs what a killed writer left. What stands in the way is logged. Never rejects. */
  async start(call: Call): Promise<void> {
    await this.change(call, async () => undefined).catch((error: unknown) => {
      if (!PvbusError.is(error)) throw error;
    });
  }

  /** Runs what only reads: whoever keeps the pool locked keeps it from being repaired, not from being read. */
  read<T>(call: Call, action: (pool: ServedPool) => Promise<T>): Promise<T> {
    return this.#attempt("read", () => this.#glance(call), action);
  }

  /** Runs what changes the pool. */
  change<T>(call: Call, action: (pool: ServedPool) => Promise<T>): Promise<T> {
    return this.#attempt("change", () => this.#recover(call), action);
  }

  /** The pool for quick answers. They go round the failures, so that a slow one reports that a pool is served again. */
  get sound(): ServedPool | undefined {
    return this.#recovered && !this.#failures.has("read") ? this.#pool : undefined;
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  async #recover(call: Call): Promise<void> {
    if (this.#recovered) return;
    await this.#pool.recover(call);
    this.#recovered = true;
  }

  async #glance(call: Call): Promise<void> {
    if (this.#recovered || monotonicMs() < this.#leaveUntil) return;
    const timeoutMs = Math.min(GLANCE_MS, call.remainingMs);
    try {
      await this.#recover(new Call({ signal: call.signal, timeoutMs }));
    } catch (error) {
      if (!(PvbusError.is(error) && error.code === "ERR_TIMEOUT")) throw error;
      this.#leaveUntil = monotonicMs() + GLANCE_PAUSE_MS;
    }
  }

  /** Logs the beginning and the end of a failure. */
  async #attempt<T>(
    verb: Verb,
    prepare: () => Promise<void>,
    action: (pool: ServedPool) => Promise<T>,
  ): Promise<T> {
    try {
      await prepare();
      const result = await action(this.#pool);
      this.#succeeded(verb);
      return result;
    } catch (error) {
      if (PvbusError.is(error) && error.code !== "ERR_ABORTED") this.#failed(verb, error);
      throw error;
    }
  }

  #failed(verb: Verb, { code, message }: PvbusError): void {
    // The same state may be reported with another length, time or process, and a lock by whoever waits for it.
    const state = code === "ERR_TIMEOUT" ? code : `${code} ${message.replace(/\d+/g, "")}`;
    const isKnown = [...this.#failures.values()].includes(state);
    this.#failures.set(verb, state);
    if (!isKnown)
      this.#logger.error(`pool ${this.#name} fails, each request tries again: ${message}`, { code });
  }

  #succeeded(verb: Verb): void {
    const state = this.#failures.get(verb);
    if (state === undefined) return;
    for (const [each, its] of this.#failures) if (its === state) this.#failures.delete(each);
    if (this.#failures.size === 0) this.#logger.info(`pool ${this.#name} is served again`);
  }
}
