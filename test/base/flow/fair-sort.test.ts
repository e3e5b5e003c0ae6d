import { expect } from "chai";
import fc from "fast-check";
import { Call } from "../../../src/base/flow/call.js";
import { fairSort } from "../../../src/base/flow/fair-sort.js";
import { codeOf } from "../../support/memory-interface.js";

describe("fairSort", () => {
  it("sorts as sort() does, and leaves what it was given", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ maxLength: 3 }), { maxLength: 50 }),
        fc.nat(9_000),
        async (some, more) => {
          const texts = [...some, ...Array.from({ length: more }, (_, at) => `${(at * 7919) % 1000}`)];
          const before = [...texts];
          expect(await fairSort(texts, new Call())).to.deep.equal([...texts].sort());
          expect(texts).to.deep.equal(before);
        },
      ),
      { numRuns: 20 },
    );
  });

  it("lets a timer end it", async () => {
    const abort = new AbortController();
    const texts = Array.from({ length: 400_000 }, (_, at) => `n${(at * 7919) % 400_000}`);
    setTimeout(() => abort.abort(), 5);
    expect(await codeOf(fairSort(texts, new Call({ signal: abort.signal })))).to.equal("ERR_ABORTED");
  });
});
