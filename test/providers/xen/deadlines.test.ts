import { expect } from "chai";
import { Deadlines, type Timed } from "../../../providers/xen/client/deadlines.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";

class Waiting implements Timed {
  readonly deadline: number;

  constructor(ms: number) {
    this.deadline = monotonicMs() + ms;
  }
}

const timers = (): number => process.getActiveResourcesInfo().filter((each) => each === "Timeout").length;

describe("Deadlines", () => {
  it("tells each once, none before its time, none that was taken out or has no end", async () => {
    const due: Waiting[] = [];
    let last = (): void => undefined;
    const deadlines = new Deadlines<Waiting>((item) => {
      expect(item.deadline).to.be.at.most(monotonicMs());
      due.push(item);
      if (due.length === 50) last();
    });
    const all = Array.from({ length: 100 }, (_, at) => new Waiting(at % 40));
    const kept = all.filter((_, at) => at % 2 === 0);
    const endless = new Waiting(Number.POSITIVE_INFINITY);
    await new Promise<void>((resolve) => {
      last = resolve;
      for (const item of [endless, ...all]) deadlines.add(item);
      for (const item of all) if (!kept.includes(item)) deadlines.remove(item);
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(due).to.have.length(50).and.have.members(kept);
    deadlines.remove(endless);
  });

  it("has few timers however many come and go, and none that keeps the process", () => {
    const before = timers();
    const deadlines = new Deadlines<Waiting>(() => undefined);
    const until = monotonicMs() + 50;
    while (monotonicMs() < until) {
      const item = new Waiting(3_600_000);
      deadlines.add(item);
      deadlines.remove(item);
    }
    expect(timers()).to.equal(before);
    const item = new Waiting(2 ** 40);
    deadlines.add(item);
    deadlines.clear();
    deadlines.remove(item);
  });
});
