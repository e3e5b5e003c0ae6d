import assert from "node:assert/strict";
import { ownEntry } from "../../base/own.js";
import { NO_CAPABILITIES } from "../../contract/capabilities.js";
import { concurrencyClauses } from "./concurrency.js";
import { contractClauses } from "./contract.js";
import { fairnessClauses } from "./fairness.js";
import { hostClauses } from "./host-changes.js";
import { hostileClauses } from "./hostile.js";
import { listClauses } from "./listing.js";
import { portableClauses } from "./portable.js";
import { readBytesClauses, readClauses } from "./reading.js";
import { type AddClause, openStore, type Running, Scope } from "./scope.js";
import { VERBS } from "./session.js";
import type { ConformanceOptions, ConformanceRunner, MakeConformanceSubject } from "./subject.js";
import { insertClauses, takeClauses } from "./taking.js";
import { TRAITS, traitsOf } from "./trait.js";
import { oversizedClauses, readOnlyClauses, verbClauses } from "./traits.js";
import { watchClauses } from "./watching.js";
import { deleteClauses, writeClauses } from "./writing.js";

const GROUPS: readonly (readonly [title: string, clauses: (clause: AddClause) => void])[] = [
  ["contract", contractClauses],
  ["read", readClauses],
  ["readBytes", readBytesClauses],
  ["write", writeClauses],
  ["delete", deleteClauses],
  ["take", takeClauses],
  ["insert", insertClauses],
  ["list", listClauses],
  ["watch", watchClauses],
  ["the host", hostClauses],
  ...VERBS.map((verb) => [`every verb: ${verb}`, verbClauses(verb)] as const),
  ["oversized", oversizedClauses],
  ["read-only keys", readOnlyClauses],
  ["hostile", hostileClauses],
  ["concurrency", concurrencyClauses],
  ["portable keys", portableClauses],
  ["fairness", fairnessClauses],
];

/**
 * Describes, to the test runner, all that a provider must do. Call it once for each provider and each transport at
 * hand, at the top level of a test file or inside a `describe`. What the store does not have is named in `without`;
 * clauses about it are then not there.
 * @param make creates the subject before the first test; its `cleanup` runs after the last
 * @example
 * describeProviderConformance("AcmeProvider", () => ({
 *   provider: new AcmeProvider(nodeHost()),
 *   keys: { writable: (label) => `acme/${label}`, prefix: "acme/", readOnly: ["acme-host/name"] },
 * }));
 */
export function describeProviderConformance(make: MakeConformanceSubject, options?: ConformanceOptions): void;
/** The same under a title of its own. @param name title of the group, such as the provider's name with its transport */
export function describeProviderConformance(
  name: string,
  make: MakeConformanceSubject,
  options?: ConformanceOptions,
): void;
export function describeProviderConformance(
  first: string | MakeConformanceSubject,
  second?: MakeConformanceSubject | ConformanceOptions,
  third?: ConformanceOptions,
): void {
  const [name, make] = typeof first === "string" ? [first, second] : ["a provider", first];
  const options = (typeof first === "string" ? third : (second as ConformanceOptions | undefined)) ?? {};
  if (typeof make !== "function") throw new TypeError("describeProviderConformance needs a function");
  const runner = options.runner ?? globalRunner();
  const without = new Set(options.without);
  const running: Running = {
    subject: { keys: {} },
    capabilities: NO_CAPABILITIES,
    traits: new Set(),
    patienceMs: options.patienceMs ?? 5000,
    parallel: options.parallel ?? 50,
    labels: 0,
  };
  runner.describe(`conformance of ${name}`, () => {
    runner.before(async () => {
      running.subject = await make();
      const store = await openStore(running);
      running.capabilities = store.capabilities;
      running.traits = traitsOf(store, running.subject);
      await store.close();
      const there = [...without].filter((each) => running.traits.has(each));
      assert.deepEqual(there, [], "said to be lacking, but there");
    });
    runner.after(async () => running.subject.cleanup?.());
    // Clauses that need what the author says to be lacking are not there at all.
    const clause: AddClause = (title, need, body) => {
      // No named parameter: mocha would take one for its done callback.
      runner.it(title, async function (this: unknown, ...context: unknown[]) {
        const lacking = need.find((each) => !running.traits.has(each));
        if (lacking !== undefined)
          return skip(this, context[0], `${TRAITS[lacking][1]}; say so with without: ["${lacking}"]`);
        const scope = new Scope(running);
        try {
          await body(scope, await scope.session());
        } finally {
          await scope.end();
        }
      });
    };
    for (const [title, clauses] of GROUPS) {
      const there: Parameters<AddClause>[] = [];
      clauses((...each) => {
        if (!each[1].some((trait) => without.has(trait))) there.push(each);
      });
      // For vitest a group without tests is a failure.
      if (there.length > 0)
        runner.describe(title, () => {
          for (const each of there) clause(...each);
        });
    }
  });
}

/**
 * Returns the runner whose functions are global.
 * @throws TypeError when there is none: hand one over as `options.runner`
 */
function globalRunner(): ConformanceRunner {
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
function skip(self: unknown, context: unknown, reason: string): void {
  // Mocha has no place for a reason but the title.
  const test = (self as { test?: { title?: unknown } } | undefined)?.test;
  if (typeof test?.title === "string") test.title += ` [${reason}]`;
  const skippable = [self, context].find(
    (each) => typeof (each as { skip?: unknown } | undefined)?.skip === "function",
  );
  (skippable as { skip(reason: string): void } | undefined)?.skip(reason);
}
