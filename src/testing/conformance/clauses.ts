import { type ConformanceRunner, skip } from "./runner.js";
import { type Running, Scope } from "./scope.js";
import type { ConformanceTrait } from "./subject.js";
import { TRAITS } from "./trait.js";

/** Adds groups and clauses to the runner: those that need what the author says to be lacking are not there at all. */
export class Clauses {
  readonly #runner: ConformanceRunner;
  readonly #running: Running;
  readonly #without: ReadonlySet<ConformanceTrait>;

  /**
   * @param running what is known of the subject once the tests run
   * @param without what the author says that the subject lacks
   */
  constructor(runner: ConformanceRunner, running: Running, without: ReadonlySet<ConformanceTrait>) {
    this.#runner = runner;
    this.#running = running;
    this.#without = without;
  }

  /** Adds a group. */
  group(title: string, body: () => void): void {
    this.#runner.describe(title, body);
  }

  /** Adds a clause. @param need what it is about: it is no test of a store without that */
  clause(title: string, need: readonly ConformanceTrait[], body: (scope: Scope) => Promise<void>): void {
    if (need.some((each) => this.#without.has(each))) return;
    const running = this.#running;
    // No named parameter: mocha would take one for its done callback.
    this.#runner.it(title, async function (this: unknown, ...context: unknown[]) {
      const lacking = need.find((each) => !running.traits.has(each));
      if (lacking !== undefined) {
        const reason = `${TRAITS[lacking][1]}; say so with without: ["${lacking}"]`;
        return skip(this, context[0], reason);
      }
      const scope = new Scope(running);
      try {
        await body(scope);
      } finally {
        await scope.end();
      }
    });
  }
}
