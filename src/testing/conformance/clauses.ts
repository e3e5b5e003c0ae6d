import type { Verbs } from "../../bus/capabilities.js";
import { type ConformanceRunner, skip } from "./runner.js";
import { type Running, Scope } from "./scope.js";

/** When a clause applies: the verbs that it needs, or a look at what the store declares. */
export type Need = readonly (keyof Verbs)[] | ((scope: Scope) => boolean);

/** Adds groups and clauses to the runner; a clause that the declared capabilities exclude is skipped. */
export class Clauses {
  readonly #runner: ConformanceRunner;
  readonly #running: Running;

  /** @param running what is known of the subject once the tests run */
  constructor(runner: ConformanceRunner, running: Running) {
    this.#runner = runner;
    this.#running = running;
  }

  /** Adds a group. */
  group(title: string, body: () => void): void {
    this.#runner.describe(title, body);
  }

  /** Adds a clause. */
  clause(title: string, need: Need, body: (scope: Scope) => Promise<void>): void {
    const running = this.#running;
    // No named parameter: mocha would take one for its done callback.
    this.#runner.it(title, async function (this: unknown, ...context: unknown[]) {
      const scope = new Scope(running);
      const applies = typeof need === "function" ? need(scope) : scope.has(...need);
      if (!applies) return skip(this, context[0]);
      try {
        await body(scope);
      } finally {
        await scope.end();
      }
    });
  }
}
