import { inspect } from "node:util";
import { expect } from "chai";
import {
  type ConformanceSubject,
  describeProviderConformance,
  MemoryProvider,
} from "../../providers/testing.js";
import { pvbusError } from "../../src/base/errors.js";
import type { Provider } from "../../src/contract/provider.js";
import { FAULTS } from "../support/faults.js";
import { FaultyProvider } from "../support/faulty-provider.js";
import { codeOf } from "../support/memory-interface.js";
import { MiniRunner, type Result } from "../support/mini-runner.js";

/** What is right is never late, also on a busy machine; what is wrong shows sooner. */
const PATIENT_MS = 5_000;
const GIVEN = { "host/name": "vm-1", "host/empty": "" };

function subjectOf(provider: Provider, host: MemoryProvider): ConformanceSubject {
  return {
    provider,
    host: { key: (label) => `host/${label}`, set: (key, value) => host.give(key, value), prefix: "host/" },
    keys: {
      writable: (label) => `guest/${label}`,
      prefix: "guest/",
      given: GIVEN,
      readOnly: ["host/name", "host/absent"],
    },
  };
}

function collect(provider: Provider, inner: MemoryProvider, patienceMs = 250): MiniRunner {
  const runner = new MiniRunner();
  describeProviderConformance("X", () => subjectOf(provider, inner), { runner, patienceMs, parallel: 20 });
  return runner;
}

const failedTitles = (results: readonly Result[]): string[] =>
  results.filter(({ outcome }) => outcome === "failed").map(({ title }) => title);

describeProviderConformance(
  "MemoryProvider",
  () => {
    const provider = new MemoryProvider(undefined, { given: GIVEN });
    return subjectOf(provider, provider);
  },
  { without: ["binary"] },
);

describe("describeProviderConformance", () => {
  it("passes the provider behind which the faults are seeded", async () => {
    const inner = new MemoryProvider(undefined, { given: GIVEN });
    const results = await collect(new FaultyProvider(inner, () => ({})), inner, PATIENT_MS).run();
    expect(failedTitles(results)).to.deep.equal([]);
    expect(results.filter(({ outcome }) => outcome === "passed").length).to.be.greaterThan(100);
  });

  for (const { name, clause, fault, declared } of FAULTS) {
    it(`notices that ${name}`, async () => {
      const inner = new MemoryProvider(undefined, { given: GIVEN });
      const results = await collect(new FaultyProvider(inner, fault, declared), inner).run((title) =>
        title.endsWith(clause),
      );
      expect(results, `one clause is named "${clause}"`).to.have.length(1);
      expect(results[0]?.outcome).to.equal("failed");
    });
  }

  it("notices an id that is not in lower case", async () => {
    class Shouting extends FaultyProvider {
      override readonly id = "Memory";
    }
    const inner = new MemoryProvider(undefined, { given: GIVEN });
    const results = await collect(new Shouting(inner, () => ({})), inner).run((title) =>
      title.endsWith("has an id in lower case and a type"),
    );
    expect(failedTitles(results)).to.have.length(1);
  });

  it("has a fault for each clause but those that the interface itself upholds", async () => {
    const provider = new MemoryProvider(undefined, { given: GIVEN });
    const results = await collect(provider, provider).run();
    const uncovered = results.filter(
      ({ title }) => !FAULTS.some(({ clause }) => title.replace(/ \[.*\]$/, "").endsWith(clause)),
    );
    const upheld =
      /closed interface|undeclared|no text|empty (key|text)|a NUL|surrogate|an id in lower case|loop of calls that fail at once/;
    expect(uncovered.filter(({ title }) => !upheld.test(title)).map(({ title }) => title)).to.deep.equal([]);
  });

  it("has no clause about what the store is said to lack, and notices when it is there after all", async () => {
    const provider = new MemoryProvider(undefined, { given: GIVEN });
    const all = collect(provider, provider);
    const runner = new MiniRunner();
    const without = ["binary"] as const;
    describeProviderConformance("X", () => subjectOf(provider, provider), {
      runner,
      without,
      patienceMs: 250,
    });
    const titles = (await runner.run()).map(({ title, outcome }) => `${title}: ${outcome}`);
    const skipped = (await all.run()).filter(({ outcome }) => outcome === "skipped");
    expect(skipped.map(({ title }) => title)).to.deep.equal([
      'readBytes › keeps any bytes [the store holds text alone; say so with without: ["binary"]]',
    ]);
    expect(titles.filter((title) => /keeps any bytes|skipped/.test(title))).to.deep.equal([]);
    const wrong = new MiniRunner();
    describeProviderConformance("X", () => subjectOf(provider, provider), {
      runner: wrong,
      without: ["watch"],
    });
    expect(await codeOf(wrong.run())).to.equal("ERR_ASSERTION");
  });

  for (const failing of ["reads", "a watch"] as const)
    it(`prints the error that came where ${failing} must not fail`, async () => {
      const inner = new MemoryProvider(undefined, { given: GIVEN });
      const broken = (): never => {
        throw pvbusError("ERR_PERMISSION", "the door is shut", { cause: new Error("EACCES: locked") });
      };
      const watch = (): AsyncIterable<never> => ({ [Symbol.asyncIterator]: broken });
      const fault = () => (failing === "reads" ? { read: async () => broken() } : { watch });
      const clause =
        failing === "reads" ? "survives dots as a key in every verb" : "what it sets, changes and removes";
      const results = await collect(new FaultyProvider(inner, fault), inner).run((title) =>
        title.endsWith(clause),
      );
      const [{ error } = { error: undefined }] = results.filter(({ outcome }) => outcome === "failed");
      const told = inspect(error);
      for (const text of ["ERR_PERMISSION", "the door is shut", "EACCES: locked"])
        expect(told).to.include(text);
      expect((error as Error).message).to.include("the door is shut");
    });

  it("refuses to run without a runner or a subject", () => {
    expect(() => describeProviderConformance("X", undefined as never)).to.throw(TypeError);
  });
});
