import { expect } from "chai";
import { XenStoreClient, XenStoreRefusal } from "../../../providers/xen/index.js";
import {
  encodeMessage,
  HEADER_BYTES,
  writeHeader,
  XS,
  type XsMessage,
} from "../../../providers/xen/protocol/wire.js";
import { SocketTransport } from "../../../providers/xen/transport/socket.js";
import { PvbusError, type PvbusErrorCode } from "../../../src/index.js";
import { collectGarbage } from "../../support/descriptors.js";
import { rejects } from "../../support/rejects.js";
import { type Answer, rawPeer, replyTo } from "../../support/xen/raw-peer.js";

const SOON = { timeoutMs: 5_000 };

/** Asks a peer that answers so, and gives the error. */
async function refusedBy(answer: Answer, code: PvbusErrorCode, ask = readOne): Promise<PvbusError> {
  await using peer = await rawPeer(answer);
  await using xs = new XenStoreClient(new SocketTransport(peer.path));
  return await rejects(ask(xs), code);
}

function readOne(xs: XenStoreClient): Promise<unknown> {
  return xs.read("data/k", SOON);
}

function header(type: number, requestId: number, length: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  writeHeader(bytes, 0, { type, requestId, transactionId: 0 }, length);
  return bytes;
}

describe("XenStore client and a hostile daemon", function () {
  this.timeout(30_000);

  it("survives any bytes with a typed error", async () => {
    let state = 42;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    await using peer = await rawPeer((request, socket) => {
      // Plausible beginnings reach further than noise.
      const noise = Buffer.from(Array.from({ length: random(60) }, () => random(256)));
      const kind = random(4);
      if (kind === 0) socket.write(noise);
      if (kind === 1) socket.write(replyTo(request, noise, random(30)));
      if (kind === 2) socket.write(Buffer.concat([header(random(30), random(300), noise.length), noise]));
      if (kind === 3) socket.end(replyTo(request, noise).subarray(0, random(40)));
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    const allowed = ["ERR_PROTOCOL", "ERR_DISCONNECTED", "ERR_TIMEOUT"];
    const call = { timeoutMs: 50 };
    for (let round = 0; round < 400; round++) {
      const asked = [
        xs.read("a", call),
        xs.directory("b", call),
        xs.permissions("c", call),
        xs.write("d", "e", call),
        xs.transaction(() => 1, call),
      ];
      for (const outcome of await Promise.allSettled(asked)) {
        if (outcome.status === "fulfilled") continue;
        const error: unknown = outcome.reason;
        if (!PvbusError.is(error)) throw error;
        // Noise may be an error's name.
        if (!(error.cause instanceof XenStoreRefusal)) expect(allowed).to.include(error.code);
      }
    }
  });

  it("refuses a length past the limit before it takes the bytes", async () => {
    const error = await refusedBy((request, socket) => {
      socket.write(header(XS.READ, request.requestId, 0xffff_ffff));
    }, "ERR_PROTOCOL");
    expect(error.message).to.include("4294967295 bytes");
  });

  it("refuses answers to what nobody asked", async () => {
    const one: Answer = (request, socket) =>
      socket.write(replyTo({ ...request, requestId: request.requestId + 256 }, "v"));
    await refusedBy(one, "ERR_PROTOCOL");
    const other: Answer = (request, socket) =>
      socket.write(replyTo({ ...request, requestId: request.requestId ^ 1 }, "v"));
    await refusedBy(other, "ERR_PROTOCOL");
    const twice: Answer = (request, socket) => {
      if (Buffer.from(request.payload).includes("first"))
        socket.write(Buffer.concat([replyTo(request, "v"), replyTo(request, "v")]));
    };
    await refusedBy(twice, "ERR_PROTOCOL", async (xs) => {
      const [first, second] = await Promise.allSettled([xs.readText("first", SOON), xs.read("second", SOON)]);
      expect(first).to.have.property("value", "v");
      if (second.status === "rejected") throw second.reason;
    });
  });

  it("refuses an answer of another kind", async () => {
    await refusedBy((request, socket) => socket.write(replyTo(request, "OK\0", XS.WRITE)), "ERR_PROTOCOL");
  });

  const malformed: readonly (readonly [string, string, (xs: XenStoreClient) => Promise<unknown>])[] = [
    ["an acknowledgement", "KO\0", (xs) => xs.write("a", "b", SOON)],
    ["an empty acknowledgement", "", (xs) => xs.mkdir("a", SOON)],
    ["names without an end", "a\0b", (xs) => xs.directory("a", SOON)],
    ["permissions", "x7\0", (xs) => xs.permissions("a", SOON)],
    ["no permissions", "", (xs) => xs.permissions("a", SOON)],
    ["a domain out of range", "n70000000\0", (xs) => xs.permissions("a", SOON)],
    ["a transaction's id", "0\0", (xs) => xs.begin(SOON)],
    ["a transaction's text", "1x\0", (xs) => xs.begin(SOON)],
    ["a truth", "X\0", (xs) => xs.isIntroduced(1, SOON)],
    ["features", "-1\0", (xs) => xs.features(SOON)],
  ];
  for (const [what, payload, ask] of malformed) {
    it(`refuses what is no answer: ${what}`, async () => {
      await refusedBy((request, socket) => socket.write(replyTo(request, payload)), "ERR_PROTOCOL", ask);
    });
  }

  const parts: readonly (readonly [string, (request: XsMessage, count: number) => string, PvbusErrorCode])[] =
    [
      ["without a generation", () => "a\0\0", "ERR_PROTOCOL"],
      ["with a nameless name", () => "1\0a\0\0b\0", "ERR_PROTOCOL"],
      ["that are cut", () => "1\0ab", "ERR_PROTOCOL"],
      ["that change all the time", (_request, count) => `${count}\0ab\0`, "ERR_TIMEOUT"],
      ["without end", () => `1\0${"n\0".repeat(2000)}`, "ERR_PROTOCOL"],
    ];
  for (const [what, part, code] of parts) {
    it(`refuses listings in parts ${what}`, async () => {
      let count = 0;
      const answer: Answer = (request, socket) => {
        if (request.type === XS.DIRECTORY) socket.write(replyTo(request, "E2BIG\0", XS.ERROR));
        else if (request.type === XS.TRANSACTION_START) socket.write(replyTo(request, "1\0"));
        else if (request.type === XS.TRANSACTION_END) socket.write(replyTo(request, "OK\0"));
        else socket.write(replyTo(request, part(request, count++)));
      };
      await refusedBy(answer, code, (xs) =>
        xs.directory("a", code === "ERR_TIMEOUT" ? { timeoutMs: 300 } : SOON),
      );
    });
  }

  it("reports errors of any name, shortened", async () => {
    const error = await refusedBy(
      (request, socket) => socket.write(replyTo(request, `${"\u001b[31m".repeat(700)}\0`, XS.ERROR)),
      "ERR_PROTOCOL",
    );
    expect(error.message).to.match(/^[\x20-\x7e]{1,300}$/);
    const opaque = await refusedBy(
      (request, socket) => socket.write(replyTo(request, "EFUTURE\0", XS.ERROR)),
      "ERR_PROTOCOL",
    );
    expect(opaque.cause).to.include({ code: "EFUTURE", request: "READ" });
  });

  it("times out on half a header and silence, again and again, without growth", async () => {
    await using peer = await rawPeer(
      () => undefined,
      (socket) => socket.write(Buffer.alloc(8)),
    );
    // However slow the machine is, the peer is not given up for its silence.
    const transport = new SocketTransport(peer.path, { overdueMs: Number.POSITIVE_INFINITY });
    await using xs = new XenStoreClient(transport);
    const round = async (): Promise<void> => {
      const asked = Array.from({ length: 500 }, () => xs.write("data/k", "x".repeat(1000), { timeoutMs: 5 }));
      for (const outcome of await Promise.allSettled(asked))
        expect(outcome).to.have.nested.property("reason.code", "ERR_TIMEOUT");
    };
    for (let count = 0; count < 10; count++) await round();
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    for (let count = 0; count < 40; count++) await round();
    collectGarbage();
    expect(process.memoryUsage().heapUsed - before).to.be.lessThan(4 << 20);
    // What waits for an answer is bounded; the rest was never sent.
    expect(peer.requests.length).to.be.at.most(256);
  });

  it("lets no late answer be taken for another's", async () => {
    const late: XsMessage[] = [];
    await using peer = await rawPeer((request, socket) => {
      late.push(request);
      if (late.length < 2) return;
      for (const each of late.splice(0))
        socket.write(replyTo(each, `answer to ${each.payload.toString().trim()}`));
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    const reason = new Error("enough");
    const abort = new AbortController();
    const first = xs.read("data/first", { signal: abort.signal });
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort(reason);
    expect((await rejects(first, "ERR_ABORTED")).cause).to.equal(reason);
    const second = await xs.readText("data/second", SOON);
    expect(second?.replaceAll("\0", "")).to.equal("answer to data/second");
  });

  it("ends a transaction in time when the daemon falls silent in it", async function () {
    this.timeout(10_000);
    await using peer = await rawPeer((request, socket) => {
      if (request.type === XS.TRANSACTION_START) socket.write(replyTo(request, "1\0"));
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    const call = { timeoutMs: 30 };
    await rejects(
      xs.transaction((transaction) => transaction.read("a", call), call),
      "ERR_TIMEOUT",
    );
    await rejects(
      xs.transaction(() => 1, call),
      "ERR_TIMEOUT",
    );
  });

  it("sends what it was given though the caller's array changes while it connects", async () => {
    await using peer = await rawPeer((request, socket) => socket.write(replyTo(request, "OK\0")));
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    const value = Buffer.from("mine");
    const writing = xs.write("data/k", value, SOON);
    value.fill("x");
    await writing;
    expect(Buffer.from(peer.requests[0]?.payload ?? []).toString()).to.equal("data/k\0mine");
  });

  it("drops events that belong to no watch, however many", async () => {
    const event = encodeMessage({
      type: XS.WATCH_EVENT,
      requestId: 7,
      transactionId: 7,
      payload: Buffer.from("a\0none\0"),
    });
    const flood = Buffer.concat(Array.from({ length: 2000 }, () => event));
    await using peer = await rawPeer((request, socket) => {
      socket.write(flood);
      socket.write(replyTo(request, "v"));
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    for (let round = 0; round < 50; round++) expect(await xs.readText("a", SOON)).to.equal("v");
  });

  it("joins what a slow reader misses into one resync", async () => {
    let token = "";
    await using peer = await rawPeer((request, socket) => {
      const event = (path: string): Buffer =>
        encodeMessage({ ...request, type: XS.WATCH_EVENT, payload: Buffer.from(`${path}\0${token}\0`) });
      if (request.type === XS.WATCH) token = request.payload.toString().split("\0")[1] ?? "";
      socket.write(replyTo(request, "OK\0"));
      if (request.type === XS.WATCH) socket.write(event("data"));
      if (request.type === XS.MKDIR)
        socket.write(Buffer.concat(Array.from({ length: 5000 }, (_, at) => event(`data/k${at}`))));
    });
    await using xs = new XenStoreClient(new SocketTransport(peer.path));
    const events = xs.watch("data", SOON);
    expect((await events.next()).value).to.have.property("reason", "registered");
    await xs.mkdir("data/go", SOON);
    await xs.mkdir("data/behind", SOON);
    const seen: string[] = [];
    for await (const { reason } of events) {
      seen.push(reason);
      if (seen.length > 500 || reason === "resync") break;
    }
    expect(seen).to.include("resync");
    await events.return();
  });

  it("answers whoever waits when the peer goes in the middle of a message", async () => {
    const outcome = await refusedBy((request, socket) => {
      socket.end(replyTo(request, "value").subarray(0, 18));
    }, "ERR_DISCONNECTED");
    expect(outcome.message).to.include("closed the connection");
  });

  it("reports a refused token of a watch in the watch", async () => {
    await refusedBy(
      (request, socket) => socket.write(replyTo(request, "EQUOTA\0", XS.ERROR)),
      "ERR_NO_SPACE",
      (xs) => xs.watch("data", SOON).next(),
    );
  });
});
