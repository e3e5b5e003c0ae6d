import { getEventListeners } from "node:events";
import { expect } from "chai";
import { Call } from "../../../src/base/flow/call.js";
import { SerialQueue } from "../../../src/base/flow/queues.js";
import { collectGarbage } from "../../support/descriptors.js";
import { codeOf } from "../../support/memory-interface.js";

const call = (): Call => new Call();

describe("SerialQueue", () => {
  it("runs one after the other, in the order of coming, whether they end well or not", async () => {
    const queue = new SerialQueue();
    const seen: string[] = [];
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        codeOf(
          queue.run(call(), "the turn", async () => {
            seen.push(`begin ${at}`);
            await new Promise(setImmediate);
            seen.push(`end ${at}`);
            if (at % 3 === 0) throw new Error("of the work");
          }),
        ),
      ),
    );
    expect(seen).to.deep.equal(Array.from({ length: 20 }, (_, at) => [`begin ${at}`, `end ${at}`]).flat());
    expect(outcomes.filter((code) => code === "Error")).to.have.length(7);
    expect(queue.busy).to.equal(false);
  });

  it("begins at once when nothing runs, and not at all for a call that is over", async () => {
    const queue = new SerialQueue();
    let isBegun = false;
    const running = queue.run(call(), "the turn", () => {
      isBegun = true;
    });
    expect(isBegun).to.equal(true);
    await running;
    const begin = (): never => {
      throw new Error("it was begun");
    };
    expect(await codeOf(queue.run(new Call({ signal: AbortSignal.abort() }), "the turn", begin))).to.equal(
      "ERR_ABORTED",
    );
    expect(await codeOf(queue.run(new Call({ timeoutMs: 0 }), "the turn", begin))).to.equal("ERR_TIMEOUT");
    expect(queue.busy).to.equal(false);
  });

  it("goes on behind those who gave up while they waited, under one listener for all", async () => {
    const queue = new SerialQueue();
    const abort = new AbortController();
    let end = (): void => undefined;
    const first = queue.run(call(), "the turn", () => new Promise<void>((resolve) => (end = resolve)));
    const given = Array.from({ length: 1_000 }, () =>
      codeOf(queue.run(new Call({ signal: abort.signal }), "the turn", () => expect.fail("it was begun"))),
    );
    const behind = queue.run(call(), "the turn", () => 7);
    expect(getEventListeners(abort.signal, "abort")).to.have.length(1);
    abort.abort();
    expect(new Set(await Promise.all(given))).to.deep.equal(new Set(["ERR_ABORTED"]));
    end();
    await first;
    expect(await behind).to.equal(7);
  });

  it("hands the turn on when a call ends in the moment that it comes", async () => {
    const queue = new SerialQueue();
    const abort = new AbortController();
    let end = (): void => undefined;
    const first = queue.run(call(), "the turn", () => new Promise<void>((resolve) => (end = resolve)));
    const second = codeOf(queue.run(new Call({ signal: abort.signal }), "the turn", () => undefined));
    const third = queue.run(call(), "the turn", () => 7);
    end();
    await first.then(() => abort.abort());
    expect(["none", "ERR_ABORTED"]).to.include(await second);
    expect(await third).to.equal(7);
    expect(queue.busy).to.equal(false);
  });

  it("keeps no result and no error of what is done, though it is never idle", async () => {
    const queue = new SerialQueue();
    const rounds = async (count: number): Promise<void> => {
      let last: Promise<unknown> = Promise.resolve();
      for (let at = 0; at < count; at++) {
        const before = last;
        last = queue.run(call(), "the turn", async () => new Array(1_000).fill(at));
        await before;
      }
      await last;
    };
    await rounds(1_000);
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    await rounds(5_000);
    collectGarbage();
    // Kept, they would have 40 MB.
    expect(process.memoryUsage().heapUsed - before).to.be.lessThan(4 << 20);
  });
});
