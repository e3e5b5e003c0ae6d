import { getEventListeners } from "node:events";
import { expect } from "chai";
import { XenStoreClient } from "../../../providers/xen/index.js";
import { XS } from "../../../providers/xen/protocol/wire.js";
import { SocketTransport } from "../../../providers/xen/transport/socket.js";
import { busyMeter, processorMs } from "../../support/event-loop.js";
import { pending } from "../../support/pending.js";
import { rejects } from "../../support/rejects.js";
import {
  type Daemon,
  startOxenstored,
  startXenstored,
  whyNoOxenstored,
  whyNoXenstored,
} from "../../support/xen/daemons.js";
import { rawPeer, replyTo } from "../../support/xen/raw-peer.js";

/** What is allowed to keep the event loop: the garbage collector has its part in it. */
const BLOCKED_MS = 50;
/** 5 µs for each of 20,000 are plenty; quadratic work takes seconds. */
const ISSUED_MS = 1_000;
const SLOTS = 256;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Asks many times without keeping the event loop itself, and gives how each ended. */
async function askMany(count: number, ask: () => Promise<unknown>): Promise<Map<string, number>> {
  const codes = new Map<string, number>();
  const note = (code: string): void => void codes.set(code, (codes.get(code) ?? 0) + 1);
  const asked: Promise<void>[] = [];
  for (let at = 0; at < count; at++) {
    asked.push(
      ask().then(
        () => note("answered"),
        (error: { code: string }) => note(error.code),
      ),
    );
    if (at % 200 === 0) await turn();
  }
  await Promise.all(asked);
  return codes;
}

function stalled(title: string, why: string | undefined, start: () => Promise<Daemon>): void {
  describe(`XenStore client on ${title} that stands still`, function () {
    this.timeout(120_000);
    let daemon: Daemon;

    before(async function () {
      if (why !== undefined) return pending(this, why);
      daemon = await start();
    });
    after(() => daemon?.stop());
    beforeEach(() => void daemon.child.kill("SIGSTOP"));
    afterEach(() => void daemon.child.kill("SIGCONT"));

    it("times 100,000 queued reads out without keeping the event loop", async () => {
      await using xs = new XenStoreClient(
        new SocketTransport(daemon.path, { overdueMs: Number.POSITIVE_INFINITY }),
      );
      const meter = busyMeter();
      const codes = await askMany(100_000, () => xs.read("data/k", { timeoutMs: 500 }));
      meter.stop();
      expect(codes).to.deep.equal(new Map([["ERR_TIMEOUT", 100_000]]));
      expect(meter.longestMs).to.be.lessThan(BLOCKED_MS);
    });

    it("ends 20,000 reads under one signal at once, without keeping the event loop", async () => {
      await using xs = new XenStoreClient(new SocketTransport(daemon.path));
      const once = async (): Promise<{ readonly issuedMs: number; readonly longestMs: number }> => {
        const abort = new AbortController();
        const meter = busyMeter();
        const begin = processorMs();
        let issuedMs = 0;
        let left = 20_000;
        const codes = await askMany(left, () => {
          if (--left === 0) {
            issuedMs = processorMs() - begin;
            expect(getEventListeners(abort.signal, "abort")).to.have.length(1);
            setImmediate(() => abort.abort());
          }
          return xs.read("data/k", { signal: abort.signal, timeoutMs: 60_000 });
        });
        meter.stop();
        expect(codes).to.deep.equal(new Map([["ERR_ABORTED", 20_000]]));
        return { issuedMs, longestMs: meter.longestMs };
      };
      // A collection of the test's own garbage falls into some of them; work that is quadratic keeps the loop in each.
      let least = await once();
      for (
        let tries = 1;
        tries < 3 && (least.longestMs >= BLOCKED_MS || least.issuedMs >= ISSUED_MS);
        tries++
      ) {
        const next = await once();
        least = {
          longestMs: Math.min(least.longestMs, next.longestMs),
          issuedMs: Math.min(least.issuedMs, next.issuedMs),
        };
      }
      expect(least.longestMs).to.be.lessThan(BLOCKED_MS);
      expect(least.issuedMs).to.be.lessThan(ISSUED_MS);
    });

    it("ends what it owes to nobody when it goes on, and answers what is asked then", async () => {
      await using xs = new XenStoreClient(new SocketTransport(daemon.path));
      await askMany(2 * SLOTS, () => xs.write("data/late", "x", { timeoutMs: 20 }));
      daemon.child.kill("SIGCONT");
      await xs.write("data/now", "1");
      expect(await xs.readText("data/now")).to.equal("1");
    });
  });
}

stalled("Debian's oxenstored", whyNoOxenstored(), startOxenstored);
stalled("Debian's C xenstored", whyNoXenstored(), startXenstored);

describe("XenStore client and a connection that answers nothing any more", function () {
  this.timeout(30_000);

  it("drops it when all slots have been owed too long, and works on another one", async () => {
    let connections = 0;
    await using peer = await rawPeer(
      (request, socket) => {
        if (connections > 1) socket.write(replyTo(request, "there"));
      },
      () => void connections++,
    );
    await using xs = new XenStoreClient(new SocketTransport(peer.path, { overdueMs: 30 }));
    await xs.connect();
    await Promise.all(
      Array.from({ length: SLOTS }, () => rejects(xs.read("data/k", { timeoutMs: 10 }), "ERR_TIMEOUT")),
    );
    let text: string | undefined;
    for (let tries = 0; text === undefined && tries < 100; tries++)
      text = await xs.readText("data/k", { timeoutMs: 50 }).catch(() => undefined);
    expect(text).to.equal("there");
    expect(connections).to.equal(2);
  });

  it("tells who would wait there for ever", async () => {
    await using peer = await rawPeer(() => undefined);
    await using xs = new XenStoreClient(new SocketTransport(peer.path, { overdueMs: 30 }));
    await xs.connect();
    const endless = xs.read("data/k", { timeoutMs: Number.POSITIVE_INFINITY });
    const others = Array.from({ length: SLOTS - 1 }, () =>
      rejects(xs.read("data/k", { timeoutMs: 10 }), "ERR_TIMEOUT"),
    );
    const error = await rejects(endless, "ERR_DISCONNECTED");
    expect(error.message).to.include("has not answered");
    await Promise.all(others);
  });

  it("keeps it while one of its slots is free, or one answer comes", async () => {
    let connections = 0;
    const held: (() => void)[] = [];
    await using peer = await rawPeer(
      (request, socket) => {
        if (request.type === XS.DIRECTORY) socket.write(replyTo(request, "a\0"));
        else held.push(() => socket.write(replyTo(request, "late")));
      },
      () => void connections++,
    );
    await using xs = new XenStoreClient(new SocketTransport(peer.path, { overdueMs: 50 }));
    const owe = (count: number): Promise<unknown> =>
      Promise.all(
        Array.from({ length: count }, () => rejects(xs.read("data/k", { timeoutMs: 5 }), "ERR_TIMEOUT")),
      );
    await owe(SLOTS - 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await xs.directory("data")).to.deep.equal(["a"]);
    await owe(1);
    held.shift()?.();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await xs.directory("data")).to.deep.equal(["a"]);
    expect(connections).to.equal(1);
  });

  it("sends no change of a call that was over while it waited for its turn", async () => {
    const held: (() => void)[] = [];
    await using peer = await rawPeer((request, socket) => {
      if (request.type === XS.WRITE) socket.write(replyTo(request, "OK\0"));
      else held.push(() => socket.write(replyTo(request, "v")));
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    const reads = Array.from({ length: SLOTS }, () => xs.read("data/k"));
    const abort = new AbortController();
    const writes = Array.from({ length: 5_000 }, () =>
      rejects(xs.write("data/k", "x", { signal: abort.signal }), "ERR_ABORTED"),
    );
    while (held.length < SLOTS) await turn();
    abort.abort();
    for (const reply of held) reply();
    await Promise.all([...reads, ...writes]);
    expect(peer.requests.filter(({ type }) => type === XS.WRITE)).to.have.length(0);
  });

  it("gives back the place of a transaction that nobody waits for any more", async () => {
    const starts: (() => void)[] = [];
    let begun = 0;
    const ends: string[] = [];
    await using peer = await rawPeer((request, socket) => {
      if (request.type === XS.TRANSACTION_START)
        starts.push(() => socket.write(replyTo(request, `${++begun}\0`)));
      else {
        ends.push(Buffer.from(request.payload).toString());
        socket.write(replyTo(request, "OK\0"));
      }
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    await xs.connect();
    // The controlling domain's 64 places.
    await Promise.all(Array.from({ length: 64 }, () => rejects(xs.begin({ timeoutMs: 20 }), "ERR_TIMEOUT")));
    const waiting = xs.begin({ timeoutMs: 20_000 });
    for (const start of starts.splice(0)) start();
    while (starts.length === 0) await turn();
    starts[0]?.();
    const transaction = await waiting;
    expect(ends).to.deep.equal(Array.from({ length: 64 }, () => "F\0"));
    await transaction.abort();
  });
});
