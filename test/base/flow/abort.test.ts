import { getEventListeners } from "node:events";
import { expect } from "chai";
import { onAbort, pause } from "../../../src/base/flow/abort.js";
import { collectGarbage } from "../../support/descriptors.js";

const listeners = (signal: AbortSignal): number => getEventListeners(signal, "abort").length;

describe("onAbort", () => {
  it("calls every action once, in their order, through one listener", () => {
    const abort = new AbortController();
    const called: number[] = [];
    for (let at = 0; at < 100; at++) onAbort(abort.signal, () => called.push(at));
    expect(listeners(abort.signal)).to.equal(1);
    abort.abort();
    abort.abort();
    expect(called).to.deep.equal(Array.from({ length: 100 }, (_, at) => at));
    expect(listeners(abort.signal)).to.equal(0);
  });

  it("calls at once when the signal has fired, and never without a signal", () => {
    let calls = 0;
    onAbort(AbortSignal.abort(), () => calls++)();
    onAbort(undefined, () => calls++)();
    expect(calls).to.equal(1);
  });

  it("leaves nothing behind when all is taken back, and begins anew", () => {
    const abort = new AbortController();
    let calls = 0;
    const action = (): void => void calls++;
    const taken = [onAbort(abort.signal, action), onAbort(abort.signal, action)];
    for (const take of [...taken, ...taken]) take();
    expect(listeners(abort.signal)).to.equal(0);
    onAbort(abort.signal, action);
    abort.abort();
    expect(calls).to.equal(1);
  });

  it("does not call what another action takes back", () => {
    const abort = new AbortController();
    const called: string[] = [];
    onAbort(abort.signal, () => {
      called.push("first");
      takeBack();
    });
    const takeBack = onAbort(abort.signal, () => called.push("second"));
    onAbort(abort.signal, () => called.push("third"));
    abort.abort();
    expect(called).to.deep.equal(["first", "third"]);
  });

  it("calls the others when one throws, and lets the process hear of it", async () => {
    const abort = new AbortController();
    const mochas = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    const heard = new Promise<unknown>((resolve) => process.once("uncaughtException", resolve));
    try {
      let calls = 0;
      onAbort(abort.signal, () => {
        throw new Error("of an action");
      });
      onAbort(abort.signal, () => calls++);
      abort.abort();
      expect(calls).to.equal(1);
      expect(await heard).to.have.property("message", "of an action");
    } finally {
      for (const each of mochas) process.on("uncaughtException", each);
    }
  });

  it("holds nothing of what was taken back", () => {
    const { signal } = new AbortController();
    onAbort(signal, () => undefined);
    const round = (): void => {
      const big = Buffer.alloc(1024);
      onAbort(signal, () => big.fill(1))();
    };
    for (let at = 0; at < 1_000; at++) round();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let at = 0; at < 100_000; at++) round();
    collectGarbage();
    expect(process.memoryUsage().heapUsed - before).to.be.lessThan(1 << 20);
  });
});

describe("pause", () => {
  it("ends with the time, or with the first signal, and leaves no listener", async () => {
    const first = new AbortController();
    const second = new AbortController();
    await pause(1, first.signal, second.signal, undefined);
    const waiting = pause(60_000, first.signal, second.signal);
    second.abort();
    await waiting;
    await pause(60_000, first.signal, second.signal);
    await pause(60_000, second.signal, first.signal);
    expect(listeners(first.signal)).to.equal(0);
  });
});
