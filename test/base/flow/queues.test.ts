import { expect } from "chai";
import { Call } from "../../../src/base/flow/call.js";
import { KeyedQueues, SerialQueue } from "../../../src/base/flow/queues.js";
import { count } from "../../support/campaign.js";
import { codeOf } from "../../support/memory-interface.js";

const call = (): Call => new Call();
const MANY = count(10_000, 100_000);

/** Work that ends when it is told to. */
function gate(): { readonly work: () => Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { work: () => opened, open };
}

describe("SerialQueue with calls that end", () => {
  it("waits no longer for those who gave up, and tells a call that is over just that", async () => {
    const queue = new SerialQueue();
    const { work, open } = gate();
    const running = queue.run(call(), "the turn", work);
    const abort = new AbortController();
    const first = codeOf(queue.run(new Call({ signal: abort.signal }), "the turn", () => undefined));
    const over = new Call({ signal: AbortSignal.abort() });
    expect(await codeOf(queue.run(over, "the turn", () => undefined))).to.equal("ERR_ABORTED");
    abort.abort();
    expect(await first).to.equal("ERR_ABORTED");
    const second = queue.run(call(), "the turn", () => 2);
    open();
    await running;
    expect(await second).to.equal(2);
  });

  it(`serves ${MANY} waiters in their order, of whom every third gives up`, async function () {
    this.timeout(60_000);
    const queue = new SerialQueue();
    const { work, open } = gate();
    const abort = new AbortController();
    const [patient, impatient] = [Call.endless(), Call.endless(abort.signal)];
    const running = queue.run(patient, "the turn", work);
    let last = -1;
    let served = 0;
    let isInOrder = true;
    const outcomes = Array.from({ length: MANY }, (_, at) =>
      codeOf(
        queue.run(at % 3 === 0 ? impatient : patient, "the turn", () => {
          isInOrder &&= at > last;
          last = at;
          served++;
        }),
      ),
    );
    abort.abort();
    open();
    await running;
    const codes = await Promise.all(outcomes);
    expect(codes.filter((code) => code === "ERR_ABORTED")).to.have.length(Math.ceil(MANY / 3));
    expect([served, isInOrder]).to.deep.equal([MANY - Math.ceil(MANY / 3), true]);
    expect(queue.busy).to.equal(false);
  });
});

describe("SerialQueue.runWithin", () => {
  it("frees the caller at the end of its call, and the others when the work has ended", async () => {
    const queue = new SerialQueue();
    const { work, open } = gate();
    const abort = new AbortController();
    const first = codeOf(queue.runWithin(new Call({ signal: abort.signal }), "the turn", "the reply", work));
    let isBegun = false;
    const second = queue.run(call(), "the turn", () => {
      isBegun = true;
    });
    abort.abort();
    expect(await first).to.equal("ERR_ABORTED");
    await new Promise(setImmediate);
    expect(isBegun).to.equal(false);
    open();
    await second;
    expect(queue.busy).to.equal(false);
  });

  it("does not begin the work of a call that ended in the line, and says what it waited for", async () => {
    const queue = new SerialQueue();
    const { work, open } = gate();
    const first = queue.run(call(), "the turn", work);
    const late = queue
      .runWithin(new Call({ timeoutMs: 5 }), "the turn", "the reply", () => expect.fail("begun"))
      .catch((error: Error) => error.message);
    expect(await late).to.match(/^no end of the turn within 5 ms/);
    open();
    await first;
  });

  it("hands on what the work throws, at once or later, and stays free", async () => {
    const queue = new SerialQueue();
    const fail = (): never => {
      throw new RangeError("at once");
    };
    expect(await codeOf(queue.runWithin(call(), "the turn", "the reply", fail))).to.equal("RangeError");
    expect(await codeOf(queue.runWithin(call(), "the turn", "the reply", async () => fail()))).to.equal(
      "RangeError",
    );
    expect(queue.busy).to.equal(false);
  });

  it("leaves no rejection to nobody when the work fails after its call is over", async () => {
    const queue = new SerialQueue();
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on("unhandledRejection", note);
    try {
      const abort = new AbortController();
      const { work, open } = gate();
      const failing = async (): Promise<void> => {
        await work();
        throw new Error("late");
      };
      const first = codeOf(
        queue.runWithin(new Call({ signal: abort.signal }), "the turn", "the reply", failing),
      );
      abort.abort();
      expect(await first).to.equal("ERR_ABORTED");
      open();
      await queue.run(call(), "its turn", async () => undefined);
      await new Promise(setImmediate);
      expect(unhandled).to.deep.equal([]);
    } finally {
      process.off("unhandledRejection", note);
    }
  });
});

describe("KeyedQueues", () => {
  it("runs one after the other for a key, side by side for several, and keeps no key that nobody uses", async () => {
    const queues = new KeyedQueues();
    const seen: string[] = [];
    const { work, open } = gate();
    const first = queues.run("a", call(), "the turn", work);
    const second = queues.run("a", call(), "the turn", () => void seen.push("a"));
    await queues.run("__proto__", call(), "the turn", () => void seen.push("b"));
    expect(seen).to.deep.equal(["b"]);
    expect(queues.size).to.equal(1);
    open();
    await Promise.all([first, second]);
    expect(seen).to.deep.equal(["b", "a"]);
    expect(queues.size).to.equal(0);
  });

  it("keeps the queue of a key while work runs though another gave up", async () => {
    const queues = new KeyedQueues();
    const { work, open } = gate();
    let isOver = false;
    const first = queues.run("a", call(), "the turn", work).then(() => {
      isOver = true;
    });
    expect(await codeOf(queues.run("a", new Call({ timeoutMs: 1 }), "the turn", () => undefined))).to.equal(
      "ERR_TIMEOUT",
    );
    const third = queues.run("a", call(), "the turn", () => expect(isOver).to.equal(true));
    expect(queues.size).to.equal(1);
    await new Promise(setImmediate);
    open();
    await Promise.all([first, third]);
    expect(queues.size).to.equal(0);
  });
});
