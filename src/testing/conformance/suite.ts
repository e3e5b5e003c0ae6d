import assert from "node:assert/strict";
import { NO_CAPABILITIES } from "../../contract/capabilities.js";
import { Clauses } from "./clauses.js";
import { concurrencyClauses } from "./concurrency.js";
import { contractClauses } from "./contract.js";
import { deletingClauses } from "./deleting.js";
import { fairnessClauses } from "./fairness.js";
import { hostileClauses } from "./hostile.js";
import { listingClauses } from "./listing.js";
import { portableClauses } from "./portable.js";
import { readingClauses } from "./reading.js";
import { globalRunner } from "./runner.js";
import { openStore, type Running } from "./scope.js";
import type { ConformanceOptions, ConformanceSubject, MakeConformanceSubject } from "./subject.js";
import { takingClauses } from "./taking.js";
import { traitsOf } from "./trait.js";
import { traitClauses } from "./traits.js";
import { watchingClauses } from "./watching.js";
import { writingClauses } from "./writing.js";

const NOT_MADE: ConformanceSubject = { keys: {} };

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
/**
 * The same under a title of its own.
 * @param name title of the group, such as the provider's name with its transport
 */
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
    subject: NOT_MADE,
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
    const clauses = new Clauses(runner, running, without);
    contractClauses(clauses);
    readingClauses(clauses);
    writingClauses(clauses);
    deletingClauses(clauses);
    takingClauses(clauses);
    listingClauses(clauses);
    watchingClauses(clauses);
    traitClauses(clauses);
    hostileClauses(clauses);
    concurrencyClauses(clauses);
    portableClauses(clauses);
    fairnessClauses(clauses);
  });
}
