import type { Clock, Logger } from "../../../src/base/host/host.js";

/** A guest can make the host say something as often as it likes: of each kind one line in that time is written. */
const QUIET_MS = 10_000;

/** Writes what one guest causes, with its name; floods of a kind become one line with a count. */
export class GuestLog {
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #guest: string;
  readonly #kinds = new Map<string, { until: number; suppressed: number }>();

  constructor(logger: Logger, clock: Clock, guest: string) {
    this.#logger = logger;
    this.#clock = clock;
    this.#guest = guest;
  }

  /** Writes a normal event. */
  info(event: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.#write("info", event, fields);
  }

  /** Writes something that an administrator should know. */
  warn(event: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.#write("warn", event, fields);
  }

  /** Writes a failure. */
  error(event: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.#write("error", event, fields);
  }

  #write(level: "info" | "warn" | "error", event: string, fields: Readonly<Record<string, unknown>>): void {
    const now = this.#clock.now();
    const kind = this.#kinds.get(event);
    if (kind !== undefined && now < kind.until) {
      kind.suppressed++;
      return;
    }
    const suppressed = kind === undefined || kind.suppressed === 0 ? {} : { suppressed: kind.suppressed };
    this.#kinds.set(event, { until: now + QUIET_MS, suppressed: 0 });
    this.#logger[level](event, { guest: this.#guest, ...fields, ...suppressed });
  }
}
