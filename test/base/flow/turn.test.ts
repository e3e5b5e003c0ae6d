import { expect } from "chai";
import { Call } from "../../../src/base/flow/call.js";
import { fairly, fairTurn, turns } from "../../../src/base/flow/turn.js";
import { work } from "../../support/event-loop.js";
import { codeOf } from "../../support/memory-interface.js";

/** Works until the present stretch is used up. */
function useUp(): void {
  while (turns.mayGoOn()) work(0.2);
}

/** The event loop's turns while something runs: their number and the longest time without one. */
async function turnsDuring(running: Promise<unknown>): Promise<{ count: number; longestMs: number }> {
  let count = 0;
  let longestMs = 0;
  let last = performance.now();
  let isRunning = true;
  const note = (): void => {
    const now = performance.now();
    longestMs = Math.max(longestMs, now - last);
    last = now;
    count++;
    if (isRunning) setImmediate(note);
  };
  setImmediate(note);
  await running;
  isRunning = false;
  return { count, longestMs };
}

describe("turns of the event loop", () => {
  it("come while a loop of steps goes on", async () => {
    const steps = async (): Promise<void> => {
      for (let step = 0; step < 100; step++) {
        await fairTurn();
        work(1);
      }
    };
    expect((await turnsDuring(steps())).count).to.be.at.least(10);
  });

  it("come between the steps of all who wait, however many they are", async () => {
    useUp();
    const steps = Array.from({ length: 100 }, async () => {
      await fairTurn();
      work(1);
    });
    // 25 turns of 4 ms; all at once it was one.
    expect((await turnsDuring(Promise.all(steps))).count).to.be.at.least(10);
  });

  it("come while calls fail without having done anything", async () => {
    let isOver = false;
    setTimeout(() => {
      isOver = true;
    }, 5);
    const until = performance.now() + 2_000;
    while (!isOver && performance.now() < until)
      await fairly(() => Promise.reject(new Error("at once"))).catch(() => undefined);
    expect(isOver).to.equal(true);
  });

  it("let those who wait go on in the order in which they came", async () => {
    useUp();
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 50 }, async (_, at) => {
        await fairTurn();
        order.push(at);
      }),
    );
    expect(order).to.deep.equal(Array.from({ length: 50 }, (_, at) => at));
  });

  it("share the time among endless loops and a newcomer", async () => {
    let isOver = false;
    const rounds = [0, 0, 0, 0];
    const loops = rounds.map(async (_, at) => {
      while (!isOver) {
        await fairTurn();
        work(0.1);
        rounds[at] = (rounds[at] ?? 0) + 1;
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    await fairTurn();
    isOver = true;
    await Promise.all(loops);
    expect(Math.max(...rounds)).to.be.lessThan(20 * Math.min(...rounds));
  });

  it("pass over who gave the place up, and who asks again while it is his turn comes last", async () => {
    useUp();
    const order: string[] = [];
    const leave = turns.wait(() => order.push("left"));
    turns.wait(() => {
      order.push("first");
      turns.wait(() => order.push("again"));
    });
    const last = new Promise<void>((resolve) => {
      turns.wait(() => {
        order.push("second");
        turns.wait(resolve);
      });
    });
    leave();
    await last;
    expect(order).to.deep.equal(["first", "second", "again"]);
  });

  it("are waited for by a call only as long as it lasts", async () => {
    const abort = new AbortController();
    const { signal } = abort;
    useUp();
    // Kept from its turn by those in front, who work on.
    const busy = Array.from({ length: 40 }, async () => {
      await fairTurn();
      work(2);
    });
    const aborted = codeOf(new Call({ signal }).turn() ?? Promise.resolve());
    const late = codeOf(new Call({ timeoutMs: 3 }).turn() ?? Promise.resolve());
    abort.abort();
    let isBusy = true;
    const all = Promise.all(busy).then(() => {
      isBusy = false;
    });
    expect(await aborted).to.equal("ERR_ABORTED");
    expect(await late).to.equal("ERR_TIMEOUT");
    expect(isBusy, "both ended before their turn").to.equal(true);
    await all;
  });

  it("are not waited for while there is time", async () => {
    await new Promise(setImmediate);
    expect(new Call().turn()).to.equal(undefined);
    expect(() => new Call({ signal: AbortSignal.abort() }).turn())
      .to.throw()
      .with.property("code", "ERR_ABORTED");
  });
});
