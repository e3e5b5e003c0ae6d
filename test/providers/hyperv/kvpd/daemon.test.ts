import { readdirSync } from "node:fs";
import { expect } from "chai";
import { type KvpDaemonParts, serveKvp } from "../../../../providers/hyperv/kvpd/daemon.js";
import { FREEBSD_KVP, LINUX_KVP, replyStatus } from "../../../../providers/hyperv/protocol/messages.js";
import { KvpStatus } from "../../../../providers/hyperv/protocol/status.js";
import { pvbusError } from "../../../../src/base/errors.js";
import { SILENT } from "../../../../src/base/host/node-host.js";
import { keepingLogger, RunningDaemon } from "../../../support/kvp-daemon.js";
import { TestDriver } from "../../../support/kvp-driver.js";
import { PoolTree } from "../../../support/pools.js";
import { rejects } from "../../../support/rejects.js";

const enumerate = { operation: "enumerate", pool: 0, index: 0 } as const;

describe("KVP daemon: life", () => {
  it("tells the version that the driver gave, in the Auto pool too", async () => {
    await using tree = new PoolTree();
    const versions: string[] = [];
    await using daemon = await RunningDaemon.start(tree.sysroot, {
      onRegistered: (text) => versions.push(text),
    });
    expect(await daemon.enumerate(2)).to.deep.include(["IntegrationServicesVersion", "3.1"]);
    expect(versions).to.deep.equal(["3.1"]);
  });

  it("registers on FreeBSD without an answer", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot, {
      platform: "freebsd",
      layout: FREEBSD_KVP,
    });
    expect((await daemon.driver.request(enumerate)).length).to.equal(7430);
    expect(await daemon.enumerate(2)).to.deep.include([
      "IntegrationServicesVersion",
      "BSD Pre-Release version",
    ]);
  });

  it("registers again when the device fails, with growing pauses, and goes on serving", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    await daemon.set(0, "k", "v");
    for (const failure of [new Error("EBADF: read"), undefined]) {
      const again = daemon.driver.registration();
      daemon.driver.fail(failure);
      await again;
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
    }
    expect(daemon.driver.registrations).to.equal(3);
    expect(daemon.lines.filter((line) => line.startsWith("warn: registering again"))).to.have.length(2);
  });

  it("goes on trying while the device cannot be opened again", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    const again = daemon.driver.registration();
    daemon.driver.refusal = pvbusError("ERR_BUSY", "taken");
    daemon.driver.fail();
    while (!daemon.lines.includes("warn: cannot register again: taken"))
      await new Promise((resolve) => setTimeout(resolve, 5));
    daemon.driver.refusal = undefined;
    await again;
    expect(await daemon.enumerate(0)).to.deep.equal([]);
  });

  it("says at the first opening why it cannot serve", async () => {
    const driver = new TestDriver();
    driver.refusal = pvbusError("ERR_BUSY", "another daemon has it");
    const parts: KvpDaemonParts = {
      openDevice: driver.open,
      layout: LINUX_KVP,
      timeLimitMs: 1000,
      answer: async () => undefined,
      logger: SILENT,
    };
    await rejects(serveKvp(parts, new AbortController().signal), "ERR_BUSY");
  });

  it("finishes the request at hand before it ends", async () => {
    const driver = new TestDriver();
    const stop = new AbortController();
    let answer: () => void = () => undefined;
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const parts: KvpDaemonParts = {
      openDevice: driver.open,
      layout: LINUX_KVP,
      timeLimitMs: 10_000,
      answer: () => answered,
      logger: SILENT,
    };
    const registered = driver.registration();
    const running = serveKvp(parts, stop.signal);
    await registered;
    const reply = driver.request(enumerate);
    stop.abort();
    answer();
    expect((await reply)[0]).to.equal(3);
    await running;
  });

  it("gives up before the driver does, and answers the next request", async () => {
    const driver = new TestDriver();
    const stop = new AbortController();
    const limits: number[] = [];
    const parts: KvpDaemonParts = {
      openDevice: driver.open,
      layout: LINUX_KVP,
      timeLimitMs: 100,
      answer: async (_, call) => {
        limits.push(call.remainingMs);
        await call.sleep(Infinity).catch(() => undefined);
      },
      logger: SILENT,
    };
    const registered = driver.registration();
    const running = serveKvp(parts, stop.signal);
    await registered;
    await driver.request(enumerate);
    await driver.request(enumerate);
    expect(Math.max(...limits)).to.be.lessThan(100);
    stop.abort();
    await running;
  });

  it("registers again after an answer to the registration that is none, and after a message cut short", async () => {
    const lines: string[] = [];
    const driver = new TestDriver();
    const stop = new AbortController();
    const parts: KvpDaemonParts = {
      openDevice: driver.open,
      layout: LINUX_KVP,
      timeLimitMs: 100,
      answer: async () => undefined,
      logger: keepingLogger(lines),
    };
    const running = serveKvp(parts, stop.signal);
    driver.inject(Buffer.alloc(7432, 7));
    await driver.registration();
    await new Promise((resolve) => setImmediate(resolve));
    const again = driver.registration();
    driver.inject(Buffer.alloc(100));
    await again;
    expect(lines.join("\n")).to.contain("operation 7").and.to.contain("a message of 100 bytes");
    stop.abort();
    await running;
  });

  it("survives any bytes in any field, and writes nowhere but in its pools", async () => {
    await using tree = new PoolTree();
    const settings = { getIpInfo: async (info: never) => info, setIpInfo: async () => undefined };
    await using daemon = await RunningDaemon.start(tree.sysroot, { ip: settings });
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let turn = 0; turn < 10_000; turn++) {
      const message = Buffer.alloc(7432);
      if (turn % 3 === 0) for (let at = 0; at < 7432; at += 4) message.writeUInt32LE(random(2 ** 32), at);
      message[0] = random(8);
      message[1] = random(7);
      for (const at of [4, 8, 12]) {
        const sizes = [0, 1, 5, 511, 512, 513, 2047, 2048, 2049, 0x7fffffff, 0x80000000, 0xffffffff];
        message.writeUInt32LE(sizes[random(sizes.length)] as number, at);
      }
      const end = 16 + random(520);
      for (let at = 16; at < end; at++) message[at] = 1 + random(255);
      const reply = await daemon.driver.send(message);
      expect(reply.length).to.equal(7432);
      expect([...Object.values(KvpStatus), KvpStatus.ok]).to.include(replyStatus(reply));
    }
    expect(await daemon.set(3, "after", "all")).to.equal(0);
    const files = readdirSync(tree.sysroot, { recursive: true }).map(String).sort();
    expect(files).to.deep.equal([
      "var",
      "var/lib",
      "var/lib/hyperv",
      ...[0, 1, 2, 3, 4].map((pool) => `var/lib/hyperv/.kvp_pool_${pool}`),
    ]);
  });
});
