import { ownEntry } from "../../base/own.js";

/** The part of a test runner that the suite uses: mocha, `node:test`, jest and vitest have it. */
export interface ConformanceRunner {
  /** Groups tests; calls the body at once. */
  describe(title: string, body: () => void): unknown;
  /** Adds a test. Where `this` or the first argument has `skip()`, tests that do not apply are skipped with it. */
  it(title: string, body: (this: unknown, ...context: unknown[]) => Promise<void>): unknown;
  /** Runs once before the tests of the group. */
  before(body: () => Promise<void>): unknown;
  /** Runs once after the tests of the group, whatever their outcome. */
  after(body: () => Promise<void>): unknown;
}

/**
 * Returns the runner whose functions are global.
 * @throws TypeError when there is none: hand one over as `options.runner`
 */
export function globalRunner(): ConformanceRunner {
  const names = globalThis as unknown as Record<string, unknown>;
  const pick = <K extends keyof ConformanceRunner>(...candidates: string[]): ConformanceRunner[K] => {
    const found = candidates.map((name) => ownEntry(names, name)).find((each) => typeof each === "function");
    if (found === undefined) {
      throw new TypeError(`no global ${candidates[0]}(): run under mocha, or pass options.runner`);
    }
    return found as ConformanceRunner[K];
  };
  return {
    describe: pick<"describe">("describe"),
    it: pick<"it">("it"),
    before: pick<"before">("before", "beforeAll"),
    after: pick<"after">("after", "afterAll"),
  };
}

/** Marks the running test as skipped, with the reason, in the runner's own way; without one it counts as passed. */
export function skip(self: unknown, context: unknown, reason: string): void {
  // Mocha has no place for a reason but the title.
  const test = (self as { test?: { title?: unknown } } | undefined)?.test;
  if (typeof test?.title === "string") test.title += ` [${reason}]`;
  const skippable = [self, context].find(
    (each) => typeof (each as { skip?: unknown } | undefined)?.skip === "function",
  );
  (skippable as { skip(reason: string): void } | undefined)?.skip(reason);
}
