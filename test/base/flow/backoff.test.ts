import { expect } from "chai";
import { Backoff } from "../../../src/base/flow/backoff.js";
import { Call } from "../../../src/base/flow/call.js";
import { codeOf } from "../../support/memory-interface.js";

describe("Backoff", () => {
  it("grows to the longest pause and begins again after a reset", () => {
    const backoff = new Backoff({ firstMs: 10, longestMs: 35, jitter: 0 });
    expect([1, 2, 3, 4].map(() => backoff.next())).to.deep.equal([10, 20, 35, 35]);
    expect(backoff.attempts).to.equal(4);
    backoff.reset();
    expect([backoff.attempts, backoff.next()]).to.deep.equal([0, 10]);
    const slow = new Backoff({ firstMs: 100, longestMs: 1_000, factor: 1.5, jitter: 0 });
    expect([1, 2, 3].map(() => slow.next())).to.deep.equal([100, 150, 225]);
    expect(new Backoff({ firstMs: 10, longestMs: 5, jitter: 0 }).next()).to.equal(5);
  });

  it("takes a share of each pause away by chance, never more, and the growth goes on", () => {
    for (const [random, expected] of [
      [0, [100, 200]],
      [1, [75, 150]],
      [0.5, [87.5, 175]],
    ] as const) {
      const backoff = new Backoff({ firstMs: 100, longestMs: 1_000, jitter: 0.25, random: () => random });
      expect([backoff.next(), backoff.next()]).to.deep.equal(expected);
    }
    const pauses = Array.from({ length: 100 }, () => new Backoff({ firstMs: 100, longestMs: 100 }).next());
    expect(new Set(pauses).size).to.be.greaterThan(50);
    for (const pause of pauses) expect(pause).to.be.within(80, 100);
  });

  it("sleeps within the call and rests until a signal", async () => {
    const backoff = new Backoff({ firstMs: 60_000, longestMs: 60_000 });
    expect(await codeOf(backoff.sleep(new Call({ timeoutMs: 5 }), "it"))).to.equal("ERR_TIMEOUT");
    const abort = new AbortController();
    const sleeping = codeOf(backoff.sleep(new Call({ signal: abort.signal }), "it"));
    const resting = backoff.rest(undefined, abort.signal);
    abort.abort();
    expect(await sleeping).to.equal("ERR_ABORTED");
    await resting;
    await backoff.rest(abort.signal);
    const began = performance.now();
    await new Backoff({ firstMs: 20, longestMs: 20, jitter: 0 }).sleep(new Call());
    expect(performance.now() - began).to.be.at.least(20);
  });
});
