import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { Call } from "../../../src/base/flow/call.js";
import { hostFiles } from "../../../src/base/host/files.js";
import type { HeldName } from "../../../src/base/host/tree.js";
import {
  isServed,
  openSocket,
  UnixStream,
  type UnixStreamOptions,
} from "../../../src/base/host/unix-stream.js";
import { codeOf } from "../../support/memory-interface.js";
import { rejects } from "../../support/rejects.js";

const call = (): Call => new Call({ timeoutMs: 5_000 });

describe("UnixStream", () => {
  let folder: string;
  let server: Server;
  let peers: Socket[];
  let held: number;
  let connected: Promise<Socket>;

  const hold = (path = join(folder, "s")): HeldName => {
    const place = hostFiles(undefined).holdSocket(path);
    let isHeld = true;
    held++;
    const letGo = (): void => {
      if (isHeld) held--;
      isHeld = false;
    };
    return { path: place.path, [Symbol.dispose]: letGo };
  };
  const open = (options: Partial<UnixStreamOptions> = {}): Promise<UnixStream> =>
    UnixStream.connect(hold, { name: "unix:/s", ...options }, call());

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "unix-stream-"));
    peers = [];
    held = 0;
    let first = (_socket: Socket): void => undefined;
    connected = new Promise((resolve) => {
      first = resolve;
    });
    server = createServer((socket) => {
      socket.on("error", () => undefined);
      peers.push(socket);
      first(socket);
    });
    await new Promise<void>((resolve) => server.listen(join(folder, "s"), resolve));
  });
  afterEach(async () => {
    for (const peer of peers) peer.destroy();
    await new Promise((resolve) => server.close(resolve));
    rmSync(folder, { recursive: true });
  });

  it("moves bytes both ways, and lets the socket's place go", async () => {
    const got: Buffer[] = [];
    let arrived = (): void => undefined;
    const all = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    await using stream = await open({
      onData: (chunk) => {
        got.push(chunk);
        if (Buffer.concat(got).length === 6) arrived();
      },
    });
    expect(held).to.equal(0);
    const peer = await connected;
    peer.on("data", (chunk) => peer.write(chunk));
    await stream.write(Buffer.from("abc"), call());
    expect(stream.send(Buffer.from("def"))).to.equal(undefined);
    await all;
    expect(Buffer.concat(got).toString()).to.equal("abcdef");
  });

  it("reads into the same memory where chunks hold during the call only", async () => {
    const buffers = new Set<ArrayBufferLike>();
    let text = "";
    let ended = (_error: Error | undefined): void => undefined;
    const end = new Promise<Error | undefined>((resolve) => {
      ended = resolve;
    });
    await using stream = await open({
      reusesChunks: true,
      onData: (chunk) => {
        buffers.add(chunk.buffer);
        text += chunk.toString();
        if (text.length < 4) void stream.write(Buffer.from("n"), call());
      },
      onEnd: (error) => ended(error),
    });
    const peer = await connected;
    let sent = 0;
    peer.on("data", () => (++sent < 3 ? peer.write(`${sent}`) : peer.end("!")));
    peer.write("0");
    expect(await end).to.equal(undefined);
    expect([text, buffers.size]).to.deep.equal(["012!", 1]);
    expect(stream.isOpen).to.equal(false);
  });

  it("keeps back what nobody reads, so that the other end waits, and ends behind it", async () => {
    await using stream = await open();
    const peer = await connected;
    const whole = Buffer.alloc(4 << 20, "x");
    let isTaken = false;
    peer.end(whole, () => {
      isTaken = true;
    });
    await stream.read(call());
    expect(isTaken).to.equal(false);
    let bytes = 0;
    for (let chunk = await stream.read(call()); chunk !== undefined; chunk = await stream.read(call()))
      bytes += chunk.length;
    expect(bytes).to.be.within(whole.length - 70_000, whole.length);
    expect(isTaken).to.equal(true);
    expect(await stream.read(call())).to.equal(undefined);
    expect(await codeOf(stream.write(whole, call()))).to.equal("ERR_DISCONNECTED");
  });

  it("ends a waiting read by its call, and the next one reads on", async () => {
    await using stream = await open();
    const peer = await connected;
    const abort = new AbortController();
    const reading = codeOf(stream.read(new Call({ signal: abort.signal })));
    expect(await codeOf(stream.read(new Call({ timeoutMs: 1 })))).to.equal("ERR_TIMEOUT");
    abort.abort();
    expect(await reading).to.equal("ERR_ABORTED");
    peer.write("x");
    expect(String(await stream.read(call()))).to.equal("x");
  });

  it("waits with a write until the other end takes it, ends that by its call, and rejects it when it is closed", async () => {
    const stream = await open();
    const peer = await connected;
    peer.pause();
    const much = Buffer.alloc(4 << 20);
    expect(await codeOf(stream.write(much, new Call({ timeoutMs: 5 })))).to.equal("ERR_TIMEOUT");
    const waiting = rejects(stream.write(much, call()), "ERR_DISCONNECTED");
    const sending = stream.send(much);
    expect(sending).to.be.an.instanceOf(Promise);
    await stream.close();
    expect((await waiting).message).to.include("it was closed here");
    await sending;
    await stream.close();
    expect(await codeOf(stream.read(call()))).to.equal("ERR_DISCONNECTED");
    expect(stream.send(much)).to.equal(undefined);
  });

  it("tells of the end once, and of nothing after it was closed here", async () => {
    const told: unknown[] = [];
    const first = await open({ onEnd: (error) => told.push(error), onData: () => told.push("data") });
    (await connected).end();
    await new Promise((resolve) => setImmediate(resolve));
    while (first.isOpen) await new Promise(setImmediate);
    await new Promise(setImmediate);
    expect(told).to.deep.equal([undefined]);
    const second = await open({ onEnd: () => told.push("end"), onData: () => told.push("data") });
    while (peers.length < 2) await new Promise(setImmediate);
    peers[1]?.write("x");
    await second.close();
    peers[1]?.end();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(told).to.deep.equal([undefined]);
  });

  it("wakes a reader when it is closed", async () => {
    const stream = await open();
    const reading = codeOf(stream.read(call()));
    await stream.close();
    expect(await reading).to.equal("ERR_DISCONNECTED");
  });

  it("says what is wrong with a place, and holds it no longer", async () => {
    const at = (path: string, options: Partial<UnixStreamOptions> = {}): Promise<unknown> =>
      UnixStream.connect(() => hold(path), { name: `unix:${path}`, ...options }, call());
    const missing = await rejects(
      at(join(folder, "no"), { advice: { ENOENT: "start it" } }),
      "ERR_UNAVAILABLE",
    );
    expect(missing.message).to.match(/^cannot connect to unix:.*no \(ENOENT\); start it$/);
    const long = await rejects(at(join(folder, "x".repeat(200))), "ERR_UNAVAILABLE");
    expect(long.message).to.include("(ENAMETOOLONG); shorten the path");
    const other = await rejects(
      at(join(folder, "no"), { doing: "cannot reach it", codes: { ENOENT: "ERR_NO_INTERFACE" } }),
      "ERR_NO_INTERFACE",
    );
    expect(other.message).to.match(/^cannot reach it/);
    // The system closes what failed in a later turn of the event loop.
    for (let turn = 0; held > 0 && turn < 5; turn++) await new Promise(setImmediate);
    expect(held).to.equal(0);
  });

  it("goes nowhere for a call that is over", async () => {
    for (const [over, code] of [
      [new Call({ signal: AbortSignal.abort() }), "ERR_ABORTED"],
      [new Call({ timeoutMs: 0 }), "ERR_TIMEOUT"],
    ] as const)
      expect(await codeOf(UnixStream.connect(hold, { name: "s" }, over))).to.equal(code);
    expect(held).to.equal(0);
    expect(peers).to.deep.equal([]);
  });

  it("hangs up where the call ends while it connects", async () => {
    const abort = new AbortController();
    const opening = codeOf(UnixStream.connect(hold, { name: "s" }, new Call({ signal: abort.signal })));
    abort.abort();
    expect(await opening).to.equal("ERR_ABORTED");
    // Whether the listener saw it or not, nothing stays connected.
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    for (const peer of peers) if (!peer.destroyed) await once(peer.resume(), "close");
    while (held > 0) await new Promise(setImmediate);
    expect(await new Promise((resolve) => server.getConnections((_, count) => resolve(count)))).to.equal(0);
  });

  it("is confined below a sysroot: a link out of it leads nowhere", async () => {
    const files = hostFiles(join(folder, "tree"));
    const place = (): HeldName => files.holdSocket("/../s");
    expect(await codeOf(UnixStream.connect(place, { name: "s" }, call()))).to.equal("ERR_UNAVAILABLE");
    const inside = hostFiles(folder);
    await using stream = await UnixStream.connect(() => inside.holdSocket("/../s"), { name: "s" }, call());
    expect(stream.isOpen).to.equal(true);
  });

  it("tries again while the listener's backlog is full", async () => {
    let attempts = 0;
    const full = (): HeldName => {
      if (++attempts < 4) throw Object.assign(new Error("EAGAIN"), { code: "EAGAIN", syscall: "connect" });
      return hold();
    };
    await using stream = await UnixStream.connect(full, { name: "s" }, call());
    expect([attempts, stream.isOpen]).to.deep.equal([4, true]);
    const never = (): HeldName => {
      throw Object.assign(new Error("EAGAIN"), { code: "EAGAIN", syscall: "connect" });
    };
    const late = await rejects(
      UnixStream.connect(never, { name: "s" }, new Call({ timeoutMs: 30 })),
      "ERR_TIMEOUT",
    );
    expect(late.message).to.include("a turn to connect to s");
  });
});

describe("openSocket", () => {
  it("gives the socket, or the system's error as it came; isServed tells the two", async () => {
    const folder = mkdtempSync(join(tmpdir(), "unix-stream-"));
    const path = join(folder, "s");
    const place = (): HeldName => hostFiles(undefined).holdSocket(path);
    try {
      const failure = await openSocket(place, call(), "it").catch((error) => error);
      expect(failure).to.include({ code: "ENOENT", syscall: "connect" });
      expect(await isServed(place, call())).to.equal(false);
      const server = createServer((socket) => socket.destroy());
      await new Promise<void>((resolve) => server.listen(path, resolve));
      expect(await isServed(place, call())).to.equal(true);
      const socket = await openSocket(place, call(), "it");
      expect(socket.listenerCount("error")).to.equal(0);
      socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      expect(await codeOf(isServed(() => hostFiles(undefined).holdSocket("x".repeat(300)), call()))).to.equal(
        "ENAMETOOLONG",
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
