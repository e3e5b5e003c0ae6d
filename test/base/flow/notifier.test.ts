import { getEventListeners } from "node:events";
import { expect } from "chai";
import { Call } from "../../../src/base/flow/call.js";
import { Notifier } from "../../../src/base/flow/notifier.js";
import { count } from "../../support/campaign.js";
import { codeOf } from "../../support/memory-interface.js";

const MANY = count(10_000, 100_000);

describe("Notifier", () => {
  it("wakes all who wait, in their order, and nobody twice", async () => {
    const news = new Notifier();
    const seen: number[] = [];
    const waiting = [1, 2, 3].map((each) => news.wait(new Call()).then(() => seen.push(each)));
    expect(news.waiting).to.equal(3);
    news.notify();
    expect(seen).to.deep.equal([]);
    await Promise.all(waiting);
    expect(seen).to.deep.equal([1, 2, 3]);
    expect([news.waiting, news.count]).to.deep.equal([0, 1]);
  });

  it("does not wake later waiters by an earlier notification, unless they wait from before it", async () => {
    const news = new Notifier();
    const since = news.count;
    news.notify();
    await news.wait(new Call(), "news", since);
    expect(await codeOf(news.wait(new Call({ timeoutMs: 5 }), "news"))).to.equal("ERR_TIMEOUT");
  });

  it("loses no wake-up between a look and the waiting, whatever comes in between", async () => {
    const news = new Notifier();
    const items: number[] = [];
    const taken: number[] = [];
    const call = new Call({ timeoutMs: 5_000 });
    const taker = (async () => {
      while (taken.length < 3_000) {
        const since = news.count;
        // A look that waits itself.
        await Promise.resolve();
        const item = items.shift();
        if (item === undefined) await news.wait(call, "an item", since);
        else taken.push(item);
      }
    })();
    for (let at = 0; at < 3_000; at++) {
      items.push(at);
      news.notify();
      if (at % 3 === 0) await Promise.resolve();
      if (at % 97 === 0) await new Promise(setImmediate);
    }
    await taker;
    expect(taken).to.deep.equal(Array.from({ length: 3_000 }, (_, at) => at));
  });

  it("ends with the call and the time, at each moment of both", async () => {
    const news = new Notifier();
    const abort = new AbortController();
    const call = new Call({ signal: abort.signal });
    expect(await news.waitAtMost(5, call)).to.equal(false);
    expect(news.waiting).to.equal(0);
    const woken = news.waitAtMost(60_000, call);
    news.notify();
    expect(await woken).to.equal(true);
    const both = codeOf(news.wait(call));
    news.notify();
    abort.abort();
    expect(["none", "ERR_ABORTED"]).to.include(await both);
    expect(await codeOf(news.wait(call, "news", -1))).to.equal("ERR_ABORTED");
    expect(getEventListeners(abort.signal, "abort")).to.have.length(0);
    expect(news.waiting).to.equal(0);
  });

  it("may be notified by those whom it wakes, who may wait again", async () => {
    const news = new Notifier();
    let rounds = 0;
    const one = async (): Promise<void> => {
      for (let each = 0; each < 10; each++) {
        await news.wait(new Call());
        rounds++;
        if (news.waiting === 0) queueMicrotask(news.notify);
      }
    };
    const all = Promise.all([one(), one()]);
    while (rounds < 20) {
      news.notify();
      await new Promise(setImmediate);
    }
    await all;
    expect(rounds).to.equal(20);
  });

  it(`wakes ${MANY} waiters under one listener, and forgets as many that are aborted`, async function () {
    this.timeout(60_000);
    const news = new Notifier();
    const abort = new AbortController();
    const call = Call.endless(abort.signal);
    const wait = (): Promise<string>[] => Array.from({ length: MANY }, () => codeOf(news.wait(call)));
    const first = wait();
    expect(getEventListeners(abort.signal, "abort")).to.have.length(1);
    news.notify();
    expect(new Set(await Promise.all(first))).to.deep.equal(new Set(["none"]));
    expect(getEventListeners(abort.signal, "abort")).to.have.length(0);
    const second = wait();
    abort.abort();
    expect(new Set(await Promise.all(second))).to.deep.equal(new Set(["ERR_ABORTED"]));
    expect(news.waiting).to.equal(0);
  });
});
