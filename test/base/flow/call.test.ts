import { getEventListeners } from "node:events";
import { expect } from "chai";
import { pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { codeOf } from "../../support/memory-interface.js";

const never = new Promise<never>(() => undefined);

describe("Call", () => {
  it("refuses options of the wrong kind", () => {
    expect(() => new Call({ signal: {} as never })).to.throw(TypeError);
    for (const timeoutMs of [-1, Number.NaN, "5" as never])
      expect(() => new Call({ timeoutMs })).to.throw(RangeError);
  });

  it("counts down to zero", async () => {
    expect(new Call({ timeoutMs: 0 }).remainingMs).to.equal(0);
    expect(new Call({ timeoutMs: Number.POSITIVE_INFINITY }).remainingMs).to.equal(Number.POSITIVE_INFINITY);
  });

  it("puts the abort before the deadline, with the signal's reason", () => {
    const reason = new Error("why");
    const call = new Call({ signal: AbortSignal.abort(reason), timeoutMs: 0 });
    expect(() => call.check())
      .to.throw()
      .that.includes({ code: "ERR_ABORTED", cause: reason });
  });

  it("ends a sleep and a wait when the signal fires", async () => {
    for (const wait of [(call: Call) => call.sleep(60_000), (call: Call) => call.within(never)]) {
      const abort = new AbortController();
      const waiting = codeOf(wait(new Call({ signal: abort.signal, timeoutMs: Number.POSITIVE_INFINITY })));
      abort.abort();
      expect(await waiting).to.equal("ERR_ABORTED");
    }
  });

  it("always ends a wait at the deadline, even when a timer fires early", async () => {
    const waits = Array.from({ length: 300 }, (_, at) =>
      codeOf(new Call({ timeoutMs: 1 + at / 60 }).within(never)),
    );
    expect(new Set(await Promise.all(waits))).to.deep.equal(new Set(["ERR_TIMEOUT"]));
  });

  it("always ends a sleep beyond the deadline there, and never sleeps less than it was asked to", async () => {
    const sleeps = Array.from({ length: 300 }, (_, at) =>
      codeOf(new Call({ timeoutMs: 1 + at / 60 }).sleep(60_000)),
    );
    expect(new Set(await Promise.all(sleeps))).to.deep.equal(new Set(["ERR_TIMEOUT"]));
    const slept = await Promise.all(
      Array.from({ length: 300 }, async (_, at) => {
        const ms = at / 60;
        const began = performance.now();
        await new Call().sleep(ms);
        return performance.now() - began - ms;
      }),
    );
    expect(Math.min(...slept)).to.be.at.least(0);
  });

  it("counts from the beginning again when it is renewed, also while it waits", async () => {
    const call = new Call({ timeoutMs: 40 });
    setTimeout(() => call.renew(), 25);
    const began = performance.now();
    expect(await codeOf(call.within(never))).to.equal("ERR_TIMEOUT");
    expect(performance.now() - began).to.be.at.least(60);
  });

  it("gives what comes in time and leaves no listener behind", async () => {
    const { signal } = new AbortController();
    const call = new Call({ signal });
    expect(await call.within(Promise.resolve(7))).to.equal(7);
    await call.sleep(1);
    expect(getEventListeners(signal, "abort")).to.have.length(0);
  });

  it("takes care of a promise that fails after the call was over", async () => {
    const failing = new Promise<never>((_, reject) => setTimeout(reject, 5, new Error("late")));
    expect(await codeOf(new Call({ signal: AbortSignal.abort() }).within(failing))).to.equal("ERR_ABORTED");
    await new Promise((resolve) => setTimeout(resolve, 20));
  });
});

describe("the end of a Call", () => {
  it("is told by isOver, and by isEnd of the errors that say nothing else", () => {
    const abort = new AbortController();
    const call = Call.endless(abort.signal);
    const aborted = pvbusError("ERR_ABORTED", "of another call");
    expect([call.isOver, call.isEnd(aborted)]).to.deep.equal([false, false]);
    abort.abort();
    expect([call.isOver, call.isEnd(aborted)]).to.deep.equal([true, true]);
    expect(call.isEnd(pvbusError("ERR_BUSY", "x"))).to.equal(false);
    expect(call.isEnd(new Error("x"))).to.equal(false);
    const late = new Call({ timeoutMs: 0 });
    expect([late.isOver, late.isEnd(pvbusError("ERR_TIMEOUT", "x"))]).to.deep.equal([true, true]);
  });

  it("calls an action once, at the deadline or the abort, at once when it is over", async () => {
    const abort = new AbortController();
    const call = new Call({ signal: abort.signal, timeoutMs: 5 });
    let count = 0;
    await new Promise<void>((resolve) => {
      call.onceOver(() => {
        count++;
        resolve();
      });
    });
    expect(call.isOver).to.equal(true);
    abort.abort();
    expect(count).to.equal(1);
    call.onceOver(() => count++);
    expect(count).to.equal(2);
  });

  it("is not told before a deadline that was moved, nor to whoever took the action back", async () => {
    const abort = new AbortController();
    const call = new Call({ signal: abort.signal, timeoutMs: 60 });
    const taken = call.onceOver(() => expect.fail("it was taken back"));
    let isTold = false;
    const told = new Promise<void>((resolve) => {
      call.onceOver(() => {
        isTold = true;
        resolve();
      });
    });
    taken();
    await new Call().sleep(30);
    call.renew();
    await new Call().sleep(40);
    expect(isTold).to.equal(false);
    await told;
    expect(call.isOver).to.equal(true);
    expect(getEventListeners(abort.signal, "abort")).to.have.length(0);
  });
});
