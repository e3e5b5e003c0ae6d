import { chmodSync, chownSync, closeSync, existsSync, statSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { KvmProvider, type KvmStore } from "../../../../providers/kvm/index.js";
import { KvmHostSimulator } from "../../../../providers/testing.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import { DeviceStream } from "../../../../src/native/posix/device-stream.js";
import { count, report } from "../../../support/campaign.js";
import { collectGarbage, openDescriptors, turn } from "../../../support/descriptors.js";
import { DeviceDuplex, openPty } from "../../../support/device-duplex.js";
import { withDevices } from "../../../support/host-files.js";
import { pending } from "../../../support/pending.js";
import { rejects } from "../../../support/rejects.js";
import { asNobody, fileTree, removeTree } from "../../../support/trees.js";

const isLinux = process.platform === "linux";
const call = (timeoutMs = 5_000): Call => new Call({ timeoutMs });
const text = (value: Uint8Array | undefined): string | undefined =>
  value && Buffer.from(value).toString("utf8");

/** A watch that runs until it is stopped. */
class Watch {
  readonly seen: string[] = [];
  readonly #abort = new AbortController();
  readonly ended: Promise<void>;
  #news = (): void => undefined;

  constructor(store: KvmStore, ready: () => void) {
    this.ended = this.#run(store, ready);
  }

  async #run(store: KvmStore, ready: () => void): Promise<void> {
    const during = new Call({ signal: this.#abort.signal, timeoutMs: Number.POSITIVE_INFINITY });
    for await (const { key, value } of store.watch?.("meta/", during, { ready }) ?? []) {
      this.seen.push(`${key}=${text(value)}`);
      this.#news();
    }
  }

  async until(change: string): Promise<void> {
    while (!this.seen.includes(change)) await new Promise<void>((resolve) => (this.#news = resolve));
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.ended;
  }
}

describe(`a line that a watch keeps${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let host: KvmHostSimulator;
  let sysroot: string;
  let socket: string;
  let terminal: string;
  let close: () => void;
  const stores: KvmStore[] = [];

  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(async () => {
    host = new KvmHostSimulator();
    host.set("k", "value");
    const { fd, path, keeper } = openPty();
    close = () => closeSync(keeper);
    host.serve(await DeviceDuplex.over((options) => new DeviceStream(fd, options)));
    sysroot = fileTree({ "run/": "" });
    terminal = path;
    socket = join(sysroot, "run/pvbus/lines/ttyS1.sock");
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    host.disconnect();
    close();
    removeTree(sysroot);
  });

  /** What another program would do: nothing is common to the stores but the device. */
  async function program(options = { idleMs: 5 }): Promise<KvmStore> {
    const machine = nodeHost({ sysroot, platform: "linux" });
    const provider = new KvmProvider(withDevices(machine, new Map([["/dev/ttyS1", terminal]])));
    const store = await provider.open({ channel: "serial:/dev/ttyS1", options });
    stores.push(store);
    return store;
  }
  async function watching(): Promise<Watch> {
    const store = await program();
    let watch: Watch | undefined;
    await new Promise<void>((resolve, reject) => {
      watch = new Watch(store, resolve);
      watch.ended.catch(reject);
    });
    while (!existsSync(socket)) await turn();
    return watch as Watch;
  }

  it("is open to other programs of the same user meanwhile: they read, write, remove, list and watch", async () => {
    const first = await watching();
    const store = await program();
    expect(text(await store.read("meta/k", call()))).to.equal("value");
    await store.write?.("meta/from-second", Buffer.from([0xff, 0]), call());
    expect(host.get("from-second")).to.deep.equal(Buffer.from([0xff, 0]));
    expect(await store.delete?.("meta/from-second", call())).to.equal(true);
    await rejects(store.write?.("meta/sdc:x", Buffer.from("v"), call()) as Promise<void>, "ERR_READ_ONLY");
    const second = await watching();
    const third = await watching();
    host.set("live", "1");
    for (const each of [first, second, third]) await each.until("meta/live=1");
    await third.stop();
    host.set("live", "2");
    for (const each of [first, second]) await each.until("meta/live=2");
    expect(third.seen).to.deep.equal(["meta/live=1"]);
    for (const each of [first, second]) await each.stop();
  });

  it("does no change twice for them where the host would: what the administrator wrote meanwhile stays", async () => {
    const watch = await watching();
    const store = await program();
    // CAPS, and the value that stood there; the answer to the PUT is lost.
    host.fail(undefined, undefined, "lost");
    const put = store.write?.("meta/k", Buffer.from("guest"), call(20_000)) as Promise<void>;
    while (!host.commands.includes("PUT")) await turn();
    host.set("k", "administrator");
    expect((await rejects(put, "ERR_CONFLICT")).message).to.include("somebody else");
    expect(`${host.get("k")}`).to.equal("administrator");
    expect(host.commands.filter((word) => word === "PUT")).to.have.length(1);
    await watch.stop();
  });

  it("is joined by who waited for it when the program that has it begins to watch", async () => {
    const first = await program({ idleMs: 60_000 });
    expect(text(await first.read("meta/k", call()))).to.equal("value");
    const reading = (await program()).read("meta/k", call(20_000));
    await rejects((await program()).read("meta/k", call(300)), "ERR_BUSY");
    const watch = new Watch(first, () => undefined);
    expect(text(await reading)).to.equal("value");
    await watch.stop();
  });

  it("goes to another program that watches when the first one ends", async () => {
    const first = await watching();
    const second = await watching();
    await first.stop();
    await stores[0]?.close();
    host.set("after", "1");
    await second.until("meta/after=1");
    while (!existsSync(socket)) await turn();
    expect(text(await (await program()).read("meta/k", call()))).to.equal("value");
    await second.stop();
  });

  it("is no longer shared when the watch is over, and free when it is idle", async () => {
    const watch = await watching();
    await watch.stop();
    while (existsSync(socket)) await turn();
    expect(text(await (await program()).read("meta/k", call()))).to.equal("value");
  });

  it("has its socket where nobody else can reach it", async () => {
    const watch = await watching();
    expect(statSync(join(sysroot, "run/pvbus/lines")).mode & 0o777).to.equal(0o700);
    expect(statSync(join(sysroot, "run/pvbus")).mode & 0o777).to.equal(0o755);
    await watch.stop();
  });

  it("is taken when the directory of the socket is open to others: neither shared nor joined there", async () => {
    const first = await watching();
    chmodSync(join(sysroot, "run/pvbus/lines"), 0o777);
    await rejects((await program()).read("meta/k", call(300)), "ERR_BUSY");
    await first.stop();
    const store = await program();
    const second = new Watch(store, () => undefined);
    expect(text(await store.read("meta/k", call()))).to.equal("value");
    expect(existsSync(socket)).to.equal(false);
    await second.stop();
  });

  it("is taken for another user, who cannot even look at the directory", async function () {
    if (process.geteuid?.() !== 0) {
      return pending(this, "another user needs root");
    }
    const first = await watching();
    chmodSync(join(sysroot, "run/pvbus"), 0o700);
    chmodSync(sysroot, 0o755);
    chownSync(terminal, 65534, 65534);
    await asNobody(async () => rejects((await program()).read("meta/k", call(300)), "ERR_BUSY"));
    await first.stop();
  });

  it("is shared though a program that was killed left its socket", async () => {
    await (await watching()).stop();
    while (existsSync(socket)) await turn();
    await stores[0]?.close();
    writeFileSync(socket, "");
    const watch = await watching();
    while (statSync(socket).isFile()) await turn();
    expect(text(await (await program()).read("meta/k", call()))).to.equal("value");
    await watch.stop();
  });

  it("costs the watch nothing when a program that was let in sends anything", async () => {
    const watch = await watching();
    const hostile = createConnection(socket);
    hostile.on("error", () => undefined);
    hostile.write(
      Buffer.concat([Buffer.from("GET k\nV2 9 zz\n\n\xff\0\n", "latin1"), Buffer.alloc(20_000_000, 0x41)]),
    );
    await new Promise((resolve) => hostile.once("close", resolve));
    expect(text(await (await program()).read("meta/k", call()))).to.equal("value");
    host.set("live", "1");
    await watch.until("meta/live=1");
    await watch.stop();
  });

  it("keeps nothing of the programs that come and go: thousands of requests leave memory and descriptors as they were", async function () {
    this.timeout(240_000);
    const rounds = Math.ceil(count(1_000, 10_000) / 100);
    const PROGRAMS = 5;
    const REQUESTS = 20;
    const watch = await watching();
    /** Several at a time, each a store of its own that joins, asks in every way and leaves. */
    const round = async (): Promise<void> => {
      const visit = async (name: string): Promise<void> => {
        const store = await program();
        for (let n = 0; n < REQUESTS / 4; n++) {
          await store.write?.(`meta/${name}`, Buffer.from(`${n}`), call(60_000));
          expect(text(await store.read(`meta/${name}`, call(60_000)))).to.equal(`${n}`);
          // It looks first whether the key is there.
          expect(await store.delete?.(`meta/${name}`, call(60_000))).to.equal(true);
        }
        await store.close();
        stores.splice(stores.indexOf(store), 1);
      };
      await Promise.all(Array.from({ length: PROGRAMS }, (_, at) => visit(`p${at}`)));
      host.commands.length = 0;
      watch.seen.length = 0;
    };
    const rest = async (): Promise<{ heap: number; buffers: number; descriptors: number }> => {
      // What was closed is let go in later turns.
      for (let n = 0; n < 20; n++) await turn();
      collectGarbage();
      const { heapUsed, external } = process.memoryUsage();
      return { heap: heapUsed, buffers: external, descriptors: openDescriptors() };
    };
    for (let n = 0; n < 10; n++) await round();
    const before = await rest();
    for (let n = 0; n < rounds; n++) await round();
    const after = await rest();
    const heap = after.heap - before.heap;
    report("joined programs", { requests: rounds * PROGRAMS * REQUESTS, "bytes more in the heap": heap });
    expect(after.descriptors).to.equal(before.descriptors);
    // The engine's own code and its pool of buffers come and go.
    expect(heap).to.be.lessThan(1 << 20);
    expect(after.buffers - before.buffers).to.be.lessThan(4 << 20);
    await watch.stop();
  });
});
