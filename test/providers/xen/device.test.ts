import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect } from "chai";
import { XenStoreSimulator } from "../../../providers/testing.js";
import { XenStoreClient } from "../../../providers/xen/index.js";
import { encodeMessage, XS } from "../../../providers/xen/protocol/wire.js";
import { DeviceTransport, type OpenDevice } from "../../../providers/xen/transport/device.js";
import { SocketTransport } from "../../../providers/xen/transport/socket.js";
import { DeviceStream } from "../../../src/native/posix/device-stream.js";
import { openDescriptors, socketPair } from "../../support/descriptors.js";
import { codeOf } from "../../support/memory-interface.js";
import { pending } from "../../support/pending.js";
import { ROOT } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";
import { type CDaemon, startXenstored, whyNoXenstored } from "../../support/xen/daemons.js";
import { type Kernel, KernelDriver } from "../../support/xen/kernel-driver.js";
import { rawPeer, replyTo } from "../../support/xen/raw-peer.js";

const SOON = { timeoutMs: 5_000 };

for (const kernel of ["linux", "linux-4.4", "freebsd"] as const) {
  describe(`XenStore client behind a device of ${kernel}, on the C xenstored`, function () {
    this.timeout(30_000);
    let daemon: CDaemon;
    let driver: KernelDriver;
    let xs: XenStoreClient;

    before(async function () {
      const why = whyNoXenstored();
      if (why !== undefined) return pending(this, why);
      daemon = await startXenstored();
      driver = await KernelDriver.on(await daemon.guest(9), kernel);
      xs = new XenStoreClient(deviceOn(driver, kernel));
    });
    after(async () => {
      await xs?.close();
      expect(driver?.violations ?? []).to.deep.equal([]);
      expect(driver?.files.size ?? 0).to.equal(0);
      await driver?.[Symbol.asyncDispose]();
      await daemon?.stop();
    });

    it("keeps hundreds of requests apart on few open files", async () => {
      const keys = Array.from({ length: 150 }, (_, at) => `data/k${at}`);
      await Promise.all(keys.map((key) => xs.write(key, `value of ${key}`)));
      const values = await Promise.all(keys.map((key) => xs.readText(key)));
      expect(values).to.deep.equal(keys.map((key) => `value of ${key}`));
      expect(driver.files.size).to.be.within(1, 4);
    });

    it("follows, is refused and unfollows on an open file of its own", async () => {
      const events = xs.watch("data/w", SOON);
      expect((await events.next()).value).to.deep.equal({ path: "data/w", reason: "registered" });
      await xs.write("data/w/x", "1");
      expect((await events.next()).value).to.deep.equal({ path: "data/w/x", reason: "changed" });
      const refused = await rejects(
        xs.watch("data/w", { ...SOON, depth: 1 }).next(),
        "ERR_KEY_INVALID",
      ).catch(() => undefined);
      // The drivers take the depth for the end of a token, and never pass it on.
      if (refused !== undefined) expect(refused.message).to.include("WATCH");
      await events.return();
    });

    it("runs transactions at the same time", async () => {
      await xs.write("data/counter", "0");
      const add = (): Promise<void> =>
        xs.transaction(
          async (transaction) => {
            const value = Number(await transaction.readText("data/counter"));
            await transaction.write("data/counter", String(value + 1));
          },
          { attempts: 1000, timeoutMs: 20_000 },
        );
      await Promise.all(Array.from({ length: 20 }, add));
      expect(await xs.readText("data/counter")).to.equal("20");
    });

    it("refuses what the driver's buffer cannot hold before it is written", async () => {
      await rejects(xs.write("data/b", "x".repeat(4080 - 7 + 1)), "ERR_VALUE_TOO_LONG");
      await rejects(xs.write("data/b", "x".repeat(4080 - 7)), "ERR_NO_SPACE");
    });
  });
}

function deviceOn(driver: KernelDriver, kernel: Kernel): DeviceTransport {
  return new DeviceTransport("/dev/xen/xenbus", kernel === "freebsd" ? "freebsd" : "linux", {
    open: driver.open,
    release: kernel === "linux" ? "4.11.0" : "4.10.9",
  });
}

describe("XenStore client on an open file", () => {
  /** Answers on the other end of each open file, a pair of descriptors that keeps the borders of messages. */
  function answeringDevice(answer: (request: Buffer) => Buffer | undefined): OpenDevice {
    return (_path, options) => {
      const [ours, theirs] = socketPair("message");
      const peer: DeviceStream = new DeviceStream(theirs, {
        bufferBytes: 8192,
        onData: (request) => {
          const reply = answer(request);
          if (reply !== undefined) peer.write(reply).catch(() => undefined);
        },
        onEnd: () => void peer.close(),
      });
      peer.unref();
      return new DeviceStream(ours, options);
    };
  }

  it("moves whole messages by real descriptors and closes them", async () => {
    const before = openDescriptors();
    const sizes: number[] = [];
    const transport = new DeviceTransport("device", "linux", {
      open: answeringDevice((request) => {
        sizes.push(request.length);
        const [type, requestId] = [request.readUInt32LE(0), request.readUInt32LE(4)];
        expect(request.readUInt32LE(12)).to.equal(request.length - 16);
        return encodeMessage({ type, requestId, transactionId: 0, payload: Buffer.from("value") });
      }),
    });
    const xs = new XenStoreClient(transport);
    const values = await Promise.all(Array.from({ length: 40 }, () => xs.readText("data/k", SOON)));
    expect(values).to.deep.equal(values.map(() => "value"));
    expect(sizes).to.deep.equal(values.map(() => 16 + "data/k".length + 1));
    await xs.close();
    while (openDescriptors() > before) await new Promise((resolve) => setImmediate(resolve));
  });

  it("takes another open file when an answer never comes", async () => {
    let opened = 0;
    let mute = true;
    const open = answeringDevice((request) => {
      if (mute) return undefined;
      const [type, requestId] = [request.readUInt32LE(0), request.readUInt32LE(4)];
      return encodeMessage({ type, requestId, transactionId: 0, payload: Buffer.from("back") });
    });
    const transport = new DeviceTransport("device", "linux", {
      overdueMs: 20,
      open: (...args) => {
        opened++;
        return open(...args);
      },
    });
    await using xs = new XenStoreClient(transport);
    // Long enough for each to be sent on a busy machine: what was not sent is owed no answer.
    const lost = Array.from({ length: 8 }, () => xs.read("data/k", { timeoutMs: 300 }));
    const codes = await Promise.all(lost.map(codeOf));
    expect(codes).to.include("ERR_TIMEOUT");
    // Whose own limit is looked at later than the first one's answer is overdue hears of the connection.
    expect(codes.filter((code) => code !== "ERR_TIMEOUT" && code !== "ERR_DISCONNECTED")).to.deep.equal([]);
    mute = false;
    while ((await xs.readText("data/k", { timeoutMs: 20 }).catch(() => "")) !== "back");
    expect(opened).to.be.greaterThan(4);
  });
});

describe("a process with a XenStore client", function () {
  this.timeout(20_000);

  /** Runs a module text in a process of its own; gives its exit code and output. */
  async function process_(path: string, body: string): Promise<{ code: number; output: string }> {
    const text = `
      const { XenStoreClient } = await import(${JSON.stringify(join(ROOT, "dist/providers/xen/index.js"))});
      const { SocketTransport } = await import(${JSON.stringify(join(ROOT, "dist/providers/xen/transport/socket.js"))});
      const xs = new XenStoreClient(new SocketTransport(${JSON.stringify(path)}));
      ${body}`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", text], { timeout: 15_000 });
    let output = "";
    child.stdout.on("data", (data: Buffer) => {
      output += data;
    });
    child.stderr.on("data", (data: Buffer) => {
      output += data;
    });
    const [code] = (await once(child, "close")) as [number];
    return { code, output };
  }

  it("ends by itself when nothing is under way", async () => {
    await using xen = await XenStoreSimulator.listen();
    const { code, output } = await process_(
      xen.path,
      `await xs.write("data/k", "v"); console.log(await xs.readText("data/k"));
       for await (const _ of xs.watch("data")) break;`,
    );
    expect({ code, output }).to.deep.equal({ code: 0, output: "v\n" });
  });

  it("waits for what is under way, and ends after its time", async () => {
    await using slow = await rawPeer((request, socket) => {
      if (request.type === XS.READ) setTimeout(() => socket.write(replyTo(request, "late")), 300);
    });
    const waited = await process_(
      slow.path,
      `xs.readText("data/k", { timeoutMs: Infinity }).then(console.log);`,
    );
    expect(waited).to.deep.equal({ code: 0, output: "late\n" });
    const ended = await process_(
      slow.path,
      `xs.write("data/k", "v", { timeoutMs: 50 }).catch(({ code }) => console.log(code));`,
    );
    expect(ended).to.deep.equal({ code: 0, output: "ERR_TIMEOUT\n" });
  });

  it("stays for a watch until it ends", async () => {
    await using xen = await XenStoreSimulator.listen();
    const watching = process_(
      xen.path,
      `for await (const { path, reason } of xs.watch("/local/domain/0/data")) {
         console.log(path, reason);
         if (reason === "registered") xs.write("/local/domain/0/go", "1");
         if (path.endsWith("/end")) break;
       }`,
    );
    while (xen.read("/local/domain/0/go") === undefined)
      await new Promise((resolve) => setImmediate(resolve));
    xen.write("/local/domain/0/data/end", "1");
    const { code, output } = await watching;
    expect(code).to.equal(0);
    expect(output.trim().split("\n").at(-1)).to.equal("/local/domain/0/data/end changed");
  });

  it("fails at once where nobody listens", async () => {
    await rejects(new XenStoreClient(new SocketTransport("/nobody/here")).read("a", SOON), "ERR_UNAVAILABLE");
  });
});
