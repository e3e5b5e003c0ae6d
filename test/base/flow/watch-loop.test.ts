import { getEventListeners } from "node:events";
import { expect } from "chai";
import { pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import {
  byEvents,
  bySnapshots,
  UNCHANGING,
  type WatchSettings,
  type WatchSource,
  watchLoop,
} from "../../../src/base/flow/watch-loop.js";
import { codeOf } from "../../support/memory-interface.js";

const bytes = (text: string): Uint8Array => Buffer.from(text);
const FAST = { firstMs: 1, longestMs: 2 };

/** A store that is looked at, with all that a test may do to it. */
class Looked {
  values = new Map<string, Uint8Array>();
  looks = 0;
  armed = 0;
  missing = false;
  fail: unknown;
  changed = (): void => undefined;
  readonly abort = new AbortController();
  readonly closing = new AbortController();
  isReady = false;

  set(key: string, value: string | undefined): void {
    if (value === undefined) this.values.delete(key);
    else this.values.set(key, bytes(value));
    this.changed();
  }

  readonly source: WatchSource<string> = bySnapshots({
    snapshot: async () => {
      this.looks++;
      if (this.fail !== undefined) throw this.fail;
      return this.missing ? undefined : new Map(this.values);
    },
    change: (name, after, before) =>
      `${name}:${before === undefined ? "" : Buffer.from(before)}>${after === undefined ? "" : Buffer.from(after)}`,
  });

  readonly told: WatchSource<string> = {
    ...this.source,
    listen: (changed) => {
      this.armed++;
      this.changed = changed;
      return () => void this.armed--;
    },
  };

  watch(
    source: WatchSource<string> = this.told,
    settings: Partial<WatchSettings> = {},
    timeoutMs = Number.POSITIVE_INFINITY,
  ): AsyncGenerator<string, void, undefined> {
    const ready = (): void => {
      this.isReady = true;
    };
    const call = new Call({ signal: this.abort.signal, timeoutMs });
    return watchLoop(source, { ready, closing: this.closing.signal, ...settings }, call);
  }

  get listeners(): number {
    return [this.abort.signal, this.closing.signal].flatMap((each) => getEventListeners(each, "abort"))
      .length;
  }
}

async function ready(looked: Looked): Promise<void> {
  while (!looked.isReady) await new Promise(setImmediate);
}

describe("watchLoop", () => {
  it("is armed before the first look, tells what was there of nothing, then each change", async () => {
    const looked = new Looked();
    looked.set("a", "1");
    looked.set("b", "1");
    const watch = looked.watch();
    const first = watch.next();
    expect(looked.armed).to.equal(1);
    await ready(looked);
    looked.values.delete("a");
    looked.values.set("c", bytes("1"));
    looked.set("b", "2");
    expect((await first).value).to.equal("a:1>");
    expect((await watch.next()).value).to.equal("b:1>2");
    expect((await watch.next()).value).to.equal("c:>1");
    await watch.return();
    expect([looked.armed, looked.listeners]).to.deep.equal([0, 0]);
  });

  it("sees what changes while it looks, and while its consumer is busy", async () => {
    const looked = new Looked();
    const watch = looked.watch();
    const first = watch.next();
    // During the first look.
    looked.set("early", "1");
    await ready(looked);
    looked.set("a", "1");
    const seen = [(await first).value];
    looked.set("b", "1");
    for (let at = 0; at < 3; at++) {
      if (seen.includes("b:>1")) break;
      seen.push((await watch.next()).value as string);
    }
    expect(seen).to.include("a:>1").and.include("b:>1");
    await watch.return();
  });

  it("looks by itself where nothing tells of changes, ever more seldom, soon again behind a change", async () => {
    const looked = new Looked();
    const watch = looked.watch(looked.source, { pace: FAST });
    const first = watch.next();
    await ready(looked);
    looked.set("a", "1");
    expect((await first).value).to.equal("a:>1");
    looked.set("a", "1");
    looked.set("b", "1");
    expect((await watch.next()).value).to.equal("b:>1");
    await watch.return();
    const slow = new Looked();
    const waiting = slow.watch(slow.source, { pace: { firstMs: 1, longestMs: 60_000, factor: 1_000 } }, 50);
    expect((await waiting.next()).done).to.equal(true);
    expect(slow.looks).to.equal(2);
  });

  it("waits for a share of the time that a look takes, the consumer's not counted", async () => {
    const looked = new Looked();
    const slow: WatchSource<string> = {
      async *look() {
        looked.looks++;
        await new Promise((resolve) => setTimeout(resolve, 20));
        yield "x";
      },
    };
    const watch = looked.watch(slow, { pace: { ...FAST, share: 1_000 } }, 300);
    expect((await watch.next()).value).to.equal("x");
    expect((await watch.next()).done).to.equal(true);
    expect(looked.looks).to.equal(2);
  });

  it("counts what cannot be told at the moment as unchanged", async () => {
    const looked = new Looked();
    looked.set("a", "1");
    const watch = looked.watch(looked.source, { pace: FAST });
    const first = watch.next();
    await ready(looked);
    looked.missing = true;
    const looks = looked.looks;
    while (looked.looks < looks + 3) await new Promise((resolve) => setTimeout(resolve, 1));
    looked.set("a", "2");
    looked.missing = false;
    expect((await first).value).to.equal("a:1>2");
    await watch.return();
  });

  it("lets pass what may be over soon, but in the first look, and ends with everything else", async () => {
    const isPassing = (error: unknown): boolean => (error as { code?: string }).code === "ERR_BUSY";
    const looked = new Looked();
    const watch = looked.watch(looked.source, { pace: FAST, isPassing });
    const first = watch.next();
    await ready(looked);
    looked.fail = pvbusError("ERR_BUSY", "busy");
    const looks = looked.looks;
    while (looked.looks < looks + 3) await new Promise((resolve) => setTimeout(resolve, 1));
    looked.fail = undefined;
    looked.set("a", "1");
    expect((await first).value).to.equal("a:>1");
    looked.fail = pvbusError("ERR_CORRUPT", "broken");
    expect(await codeOf(watch.next())).to.equal("ERR_CORRUPT");
    looked.fail = pvbusError("ERR_BUSY", "busy");
    expect(await codeOf(looked.watch(looked.source, { pace: FAST, isPassing }).next())).to.equal("ERR_BUSY");
    expect(looked.listeners).to.equal(0);
  });

  for (const when of ["before", "in the first look", "waiting", "in a look", "between two changes"] as const)
    for (const how of ["abort", "close", "deadline"] as const)
      it(`ends by ${how} ${when}`, async () => {
        const looked = new Looked();
        const gates: (() => void)[] = [];
        let holds = false;
        let timeoutMs = Number.POSITIVE_INFINITY;
        const call = { over: (): void => undefined };
        const source: WatchSource<string> = {
          ...looked.told,
          async *look(running) {
            if (holds) await running.within(new Promise<void>((resolve) => gates.push(resolve)));
            yield* ["x", "y"];
          },
        };
        if (how === "abort") call.over = () => looked.abort.abort();
        else if (how === "close") call.over = () => looked.closing.abort();
        else timeoutMs = when === "before" ? 0 : 50;
        if (when === "before") call.over();
        holds = when === "in the first look";
        const watch = looked.watch(source, {}, timeoutMs);
        const first = watch.next();
        const outcome = (result: Promise<IteratorResult<string>>): Promise<string> =>
          result.then(
            ({ done, value }) => (done === true ? "ended" : `${value}`),
            (error) => error.code,
          );
        let got: string;
        if (when === "before") got = await outcome(first);
        else {
          if (when === "in the first look") while (gates.length === 0) await new Promise(setImmediate);
          else await ready(looked);
          if (when === "in a look") {
            holds = true;
            looked.changed();
            while (gates.length === 0) await new Promise(setImmediate);
          }
          if (when === "between two changes") {
            looked.changed();
            expect(await outcome(first)).to.equal("x");
          }
          call.over();
          // Nobody asks for more for a while: what it listens to is let go all the same.
          while (looked.armed > 0) await new Promise((resolve) => setTimeout(resolve, 1));
          if (how === "close") for (const open of gates) open();
          holds = false;
          const rest = when === "between two changes" ? watch : { next: () => first };
          got = await outcome(rest.next());
          while (got === "x" || got === "y") got = await outcome(watch.next());
        }
        expect(got).to.equal(how === "close" ? "ERR_DISCONNECTED" : "ended");
        expect([looked.armed, looked.listeners]).to.deep.equal([0, 0]);
      });

  it("gives the event loop its turn while it compares 50,000 pairs", async () => {
    const looked = new Looked();
    const many = (mark: string): Map<string, Uint8Array> =>
      new Map(Array.from({ length: 50_000 }, (_, at) => [`${at}`, bytes(mark)]));
    looked.values = many("1");
    const watch = looked.watch();
    const first = watch.next();
    await ready(looked);
    looked.values = many("1");
    looked.values.set("last", bytes("2"));
    let turns = 0;
    let isDone = false;
    const count = (): void => {
      turns++;
      if (!isDone) setImmediate(count);
    };
    looked.changed();
    setImmediate(count);
    expect((await first).value).to.equal("last:>2");
    isDone = true;
    expect(turns).to.be.greaterThan(1);
    await watch.return();
  });

  it("tells of each event in its order, also of two of one key, and of none from before it", async () => {
    const looked = new Looked();
    let push = (_change: string): void => undefined;
    const source = byEvents<string>((follow) => {
      looked.armed++;
      push = follow;
      push("before");
      return () => void looked.armed--;
    });
    const watch = looked.watch(source);
    const first = watch.next();
    await ready(looked);
    for (const each of ["a", "a", "b"]) push(each);
    expect([(await first).value, (await watch.next()).value]).to.deep.equal(["a", "a"]);
    push("c");
    expect([(await watch.next()).value, (await watch.next()).value]).to.deep.equal(["b", "c"]);
    looked.abort.abort();
    expect(looked.armed).to.equal(0);
    expect((await watch.next()).done).to.equal(true);
  });

  it("goes on with what was looked at before: it waits first and drops nothing", async () => {
    const looked = new Looked();
    const source: WatchSource<string> = {
      async *look() {
        yield `${++looked.looks}`;
      },
    };
    const watch = looked.watch(source, { ready: undefined, pace: FAST });
    const first = watch.next();
    expect(looked.looks).to.equal(0);
    expect((await first).value).to.equal("1");
    await watch.return();
  });

  it("waits for the end of what never changes, and keeps the process alive for it", async () => {
    const looked = new Looked();
    const { setTimeout: real } = globalThis;
    const timers: NodeJS.Timeout[] = [];
    globalThis.setTimeout = Object.assign(
      (...args: Parameters<typeof real>) => {
        const timer = real(...args);
        timers.push(timer);
        return timer;
      },
      { __promisify__: real.__promisify__ },
    );
    const watch = looked.watch(UNCHANGING);
    const first = watch.next();
    try {
      await ready(looked);
      await new Promise(setImmediate);
    } finally {
      globalThis.setTimeout = real;
    }
    expect(timers.map((each) => each.hasRef())).to.deep.equal([true]);
    looked.abort.abort();
    expect((await first).done).to.equal(true);
  });
});
