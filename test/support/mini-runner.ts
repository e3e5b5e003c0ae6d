import type { ConformanceRunner } from "../../providers/testing.js";

/** How one test of a collected suite ended. */
export interface Result {
  readonly title: string;
  readonly outcome: "passed" | "failed" | "skipped";
  readonly error?: unknown;
}

/** A runner that collects tests instead of running them, for suites that are themselves under test. */
export class MiniRunner implements ConformanceRunner {
  readonly #path: string[] = [];
  readonly #tests: { title: string; body: (this: unknown, ...context: unknown[]) => Promise<void> }[] = [];
  readonly #before: (() => Promise<void>)[] = [];
  readonly #after: (() => Promise<void>)[] = [];

  readonly describe = (title: string, body: () => void): void => {
    this.#path.push(title);
    body();
    this.#path.pop();
  };
  readonly it = (title: string, body: (this: unknown, ...context: unknown[]) => Promise<void>): void => {
    this.#tests.push({ title: [...this.#path.slice(1), title].join(" › "), body });
  };
  readonly before = (body: () => Promise<void>): void => void this.#before.push(body);
  readonly after = (body: () => Promise<void>): void => void this.#after.push(body);

  /** Runs the collected tests whose title matches, one after the other. */
  async run(only: (title: string) => boolean = () => true): Promise<Result[]> {
    const results: Result[] = [];
    for (const each of this.#before) await each();
    for (const { title, body } of this.#tests.filter((each) => only(each.title))) {
      let skipped = false;
      const context = {
        test: { title },
        skip: () => {
          skipped = true;
        },
      };
      try {
        await body.call(context);
        results.push({ title: context.test.title, outcome: skipped ? "skipped" : "passed" });
      } catch (error) {
        results.push({ title, outcome: "failed", error });
      }
    }
    for (const each of this.#after) await each();
    return results;
  }
}
