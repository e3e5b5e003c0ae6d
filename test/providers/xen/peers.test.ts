import { once } from "node:events";
import { join } from "node:path";
import { expect } from "chai";
import { XenStoreClient } from "../../../providers/xen/index.js";
import { DeviceTransport } from "../../../providers/xen/transport/device.js";
import { SocketTransport } from "../../../providers/xen/transport/socket.js";
import { run } from "../../support/command-line.js";
import { pending } from "../../support/pending.js";
import { ROOT } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";
import {
  type CDaemon,
  type Daemon,
  startOxenstored,
  startXenstored,
  whyNoOxenstored,
  whyNoXenstored,
} from "../../support/xen/daemons.js";
import { KernelDriver } from "../../support/xen/kernel-driver.js";
import { compiled, program, startTool, tool } from "../../support/xen/tools.js";

const NAMES = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_@";
const TREES = 1000;
const BATCH = 50;

/** Repeatable random numbers: a failure can be looked at again. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** A random tree: values by path, parents before children. */
function randomTree(top: string, random: (below: number) => number, text: boolean): Map<string, Buffer> {
  const paths = [top];
  const nodes = new Map<string, Buffer>([[top, Buffer.alloc(0)]]);
  for (let left = 1 + random(8); left > 0; left--) {
    const name = Array.from({ length: 1 + random(12) }, () => NAMES[random(NAMES.length)]).join("");
    const path = `${paths[random(paths.length)]}/${name}`;
    if (nodes.has(path)) continue;
    paths.push(path);
    const length = random(4) === 0 ? 0 : random(200);
    nodes.set(path, Buffer.from(Array.from({ length }, () => (text ? 33 + random(90) : random(256)))));
  }
  return nodes;
}

function client({ path }: Daemon): XenStoreClient {
  return new XenStoreClient(new SocketTransport(path));
}

/** Returns the next event of a watch that the predicate accepts. */
async function until<T>(events: AsyncGenerator<T, void>, accept: (event: T) => boolean): Promise<T> {
  for (;;) {
    const { value, done } = await events.next();
    if (done === true || value === undefined) throw new Error("the watch ended");
    if (accept(value)) return value;
  }
}

function peers(title: string, why: string | undefined, start: () => Promise<Daemon>): void {
  describe(`XenStore client on ${title}`, function () {
    this.timeout(60_000);
    let daemon: Daemon;
    let xs: XenStoreClient;

    before(async function () {
      if (why !== undefined) return pending(this, why);
      daemon = await start();
    });
    after(() => daemon?.stop());
    beforeEach(() => {
      xs = client(daemon);
    });
    afterEach(() => xs.close());

    it(`is read by xenstore-read, ${TREES} random trees of any bytes`, async () => {
      const random = randomFrom(1);
      for (let tree = 0; tree < TREES; tree += BATCH) {
        const nodes = Array.from({ length: BATCH }, (_, at) => [
          ...randomTree(`/ours/t${tree + at}`, random, false),
        ]).flat();
        await Promise.all(nodes.map(([path, value]) => xs.write(path, value)));
        // Values of all bytes run together; each length is known.
        const seen = await tool(daemon, "read", "-R", ...nodes.map(([path]) => path));
        expect(seen.equals(Buffer.concat(nodes.map(([, value]) => value))), `trees from ${tree}`).to.equal(
          true,
        );
        for (const [path, value] of nodes) expect(await xs.read(path), path).to.deep.equal(value);
      }
    });

    it(`reads what xenstore-write wrote, ${TREES} random trees`, async () => {
      const random = randomFrom(2);
      for (let tree = 0; tree < TREES; tree += BATCH) {
        const trees = Array.from({ length: BATCH }, (_, at) =>
          randomTree(`/theirs/t${tree + at}`, random, true),
        );
        await tool(
          daemon,
          "write",
          "-R",
          "--",
          ...trees.flatMap((nodes) => [...nodes].flatMap(([path, value]) => [path, value.toString()])),
        );
        for (const nodes of trees) {
          const [top = ""] = nodes.keys();
          const found = new Map<string, Buffer>();
          const walk = async (path: string): Promise<void> => {
            found.set(path, (await xs.read(path)) as Buffer);
            for (const name of (await xs.directory(path)) ?? []) await walk(`${path}/${name}`);
          };
          await walk(top);
          expect(new Map([...found].sort())).to.deep.equal(new Map([...nodes].sort()));
        }
      }
    });

    it("lists as xenstore-ls does", async () => {
      for (const name of ["b", "a", "a/x", "a/y", "c"]) await xs.write(`/listed/${name}`, `value of ${name}`);
      const lines = (await tool(daemon, "ls", "-f", "/listed")).toString().trim().split("\n").sort();
      expect(lines).to.deep.equal(
        ["a", "a/x", "a/y", "b", "c"].map((name) => `/listed/${name} = "value of ${name}"`),
      );
      expect((await xs.directory("/listed"))?.sort()).to.deep.equal(["a", "b", "c"]);
      expect(await xs.directory("/listed/b")).to.deep.equal([]);
      expect(await xs.directory("/unlisted")).to.equal(undefined);
    });

    it("removes what xenstore-rm finds gone, and the other way round", async () => {
      await xs.write("/gone/a/b", "1");
      await tool(daemon, "rm", "/gone/a");
      expect(await xs.read("/gone/a/b")).to.equal(undefined);
      await tool(daemon, "write", "/gone/c", "2");
      expect(await xs.rm("/gone/c")).to.equal(true);
      const shown = tool(daemon, "exists", "/gone/c").then(
        () => "there",
        () => "gone",
      );
      expect(await shown).to.equal("gone");
      await rejects(xs.rm("/"), "ERR_NOT_SUPPORTED");
      expect(await xs.directory("/")).to.include("gone");
    });

    it("shares permissions with xenstore-chmod and xenstore-ls -p", async () => {
      await xs.write("/shared/node", "x");
      const permissions = [
        { domain: 0, access: "none" },
        { domain: 7, access: "read" },
        { domain: 8, access: "both" },
      ] as const;
      expect(await xs.setPermissions("/shared/node", permissions)).to.equal(true);
      expect((await tool(daemon, "ls", "-fp", "/shared")).toString()).to.match(/\(n0,r7,b8\)/);
      await tool(daemon, "chmod", "/shared/node", "b3", "w4");
      expect(await xs.permissions("/shared/node")).to.deep.equal([
        { domain: 3, access: "both" },
        { domain: 4, access: "write" },
      ]);
      expect(await xs.permissions("/shared/none")).to.equal(undefined);
    });

    it("shows in the command line what xenstore-ls -p and xenstore-chmod know", async () => {
      const pvbus = async (...argv: string[]): Promise<string> => {
        const { code, stdout, stderr } = await run([
          ...argv,
          "-t",
          "Xen",
          "--channel",
          `unix:${daemon.path}`,
        ]);
        expect(code, stderr).to.equal(0);
        return stdout;
      };
      await xs.write("/granted/a/b", "x");
      await pvbus("chmod", "-r", "/granted/a", "n3", "r7", "b8");
      expect((await tool(daemon, "ls", "-fp", "/granted")).toString().match(/\(n3,r7,b8\)/g)).to.have.length(
        2,
      );
      await tool(daemon, "chmod", "/granted/a/b", "w4", "r5");
      expect(await pvbus("ls", "-p", "/granted")).to.equal(
        "/granted/a=\t(n3,r7,b8)\n/granted/a/b=x\t(w4,r5)\n",
      );
    });

    it("loses no update of concurrent transactions, the C library's among them", async function () {
      const counter = compiled(daemon.packages, join(ROOT, "test/support/xen/counter.c"));
      if (counter === undefined) {
        return pending(this, "no C compiler");
      }
      await xs.write("/counter", "0");
      const other = client(daemon);
      const add = async (which: XenStoreClient): Promise<void> => {
        await which.transaction(
          async (transaction) => {
            const value = Number(await transaction.readText("/counter"));
            await transaction.write("/counter", String(value + 1));
          },
          { timeoutMs: 50_000 },
        );
      };
      const many = async (which: XenStoreClient): Promise<void> => {
        for (let round = 0; round < 100; round++) await add(which);
      };
      await Promise.all([many(xs), many(other), many(xs), program(daemon, counter, "/counter", "200")]);
      expect(await xs.readText("/counter")).to.equal("500");
      await other.close();
    });

    it("gives up a transaction whose body throws", async () => {
      await xs.write("/kept", "old");
      const failure = new Error("no");
      const outcome = xs.transaction(async (transaction) => {
        await transaction.write("/kept", "new");
        throw failure;
      });
      expect(await outcome.catch((error: unknown) => error)).to.equal(failure);
      expect(await xs.readText("/kept")).to.equal("old");
    });

    it("sees the last of many writes, and xenstore-watch sees ours", async () => {
      const writer = client(daemon);
      const events = xs.watch("/load", { timeoutMs: 30_000 });
      expect((await events.next()).value).to.deep.equal({ path: "/load", reason: "registered" });
      const peer = startTool(daemon, "watch", "-n", "2", "/load");
      const closed = once(peer, "close");
      await once(peer.stdout as NodeJS.EventEmitter, "data");
      const writing = async (): Promise<void> => {
        for (let round = 0; round < 2000; round++) await writer.write(`/load/k${round % 40}`, String(round));
      };
      const written = writing();
      const last = new Map<string, string>();
      while ([...last.values()].filter((value) => Number(value) >= 1960).length < 40) {
        const { path } = await until(events, ({ path }) => path !== "/load");
        last.set(path, (await xs.readText(path)) ?? "");
      }
      await written;
      await events.return();
      await closed;
      expect(peer.exitCode).to.equal(0);
      await writer.close();
    });

    it("follows a relative path by relative paths", async () => {
      const events = xs.watch("data/watched", { timeoutMs: 10_000 });
      await events.next();
      await tool(daemon, "write", "/local/domain/0/data/watched/a/b", "1");
      expect(await until(events, () => true)).to.deep.equal({ path: "data/watched/a/b", reason: "changed" });
      await events.return();
    });

    it("takes the longest request and refuses a longer one before it is sent", async () => {
      const room = 4096 - "/long/".length - 1;
      const name = "n".repeat(100);
      await rejects(xs.write(`/long/${name}`, "x".repeat(room - 99)), "ERR_VALUE_TOO_LONG");
      await rejects(xs.write(`/long/${"n".repeat(3100)}`, ""), "ERR_KEY_TOO_LONG");
      // What the daemons hold beyond their own limits is theirs to say.
      const outcome = await xs
        .write(`/long/${name}`, "x".repeat(room - 100))
        .catch((error: unknown) => error);
      if (outcome === undefined) expect(await xs.read(`/long/${name}`)).to.have.lengthOf(room - 100);
      else expect(outcome).to.have.property("code", "ERR_VALUE_TOO_LONG");
      const path = `/long/${"p".repeat(1500)}`;
      const refused = await xs.write(path, "1").catch((error: unknown) => error);
      if (refused !== undefined) expect(refused).to.have.property("code", "ERR_KEY_TOO_LONG");
    });

    it("lists 12 000 bytes of names", async () => {
      const names = Array.from({ length: 1500 }, (_, at) => `n${String(at).padStart(6, "0")}`);
      await Promise.all(names.map((name) => xs.mkdir(`/wide/${name}`)));
      expect((await xs.directory("/wide"))?.sort()).to.deep.equal(names);
      const inside = await xs.transaction((transaction) => transaction.directory("/wide"));
      expect(inside?.sort()).to.deep.equal(names);
    });

    it("answers 64 readers at a time with their own values", async () => {
      const keys = Array.from({ length: 64 }, (_, at) => `/many/k${at}`);
      await Promise.all(keys.map((key) => xs.write(key, key)));
      for (let round = 0; round < 50; round++) {
        const values = await Promise.all(keys.map((key) => xs.readText(key)));
        expect(values).to.deep.equal(keys);
      }
    });

    it("connects many clients at the same time", async () => {
      daemon.child.kill("SIGSTOP");
      const clients = Array.from({ length: 40 }, () => client(daemon));
      const connecting = Promise.all(clients.map((each) => each.write("/crowd", "here")));
      // More than the daemon lets wait, whose connect(2) is refused with EAGAIN.
      await new Promise((resolve) => setTimeout(resolve, 50));
      daemon.child.kill("SIGCONT");
      await connecting;
      await Promise.all(clients.map((each) => each.close()));
    });

    it("tells the features, domains and the daemon's word", async () => {
      expect(await xs.features()).to.equal(0);
      expect(await xs.domainPath(7)).to.equal("/local/domain/7");
      expect(await xs.isIntroduced(9)).to.equal(false);
      await rejects(
        (async () => {
          for await (const _ of xs.watch("/x", { depth: 1, timeoutMs: 5_000 })) break;
        })(),
        "ERR_KEY_INVALID",
      );
    });

    it("fails what is under way when the daemon is killed, then restores its watches", async () => {
      const events = xs.watch("/again", { timeoutMs: 30_000 });
      await events.next();
      const open = await xs.begin();
      daemon.child.kill("SIGSTOP");
      const asked = [xs.read("/again"), xs.write("/again", "lost"), open.read("/again")];
      const settled = Promise.allSettled(asked);
      await daemon.kill();
      for (const outcome of await settled) {
        expect(outcome).to.have.property("status", "rejected");
        expect(outcome).to.have.nested.property("reason.code", "ERR_DISCONNECTED");
      }
      await rejects(open.commit(), "ERR_DISCONNECTED");
      await daemon.restart();
      await until(events, ({ reason }) => reason === "resync");
      await xs.write("/again", "there");
      await until(events, ({ path, reason }) => reason === "changed" && path === "/again");
      expect(await xs.readText("/again")).to.equal("there");
      await events.return();
    });
  });
}

peers("Debian's oxenstored", whyNoOxenstored(), startOxenstored);
peers("Debian's C xenstored", whyNoXenstored(), startXenstored);

describe("XenStore client on an oxenstored whose commits fail at random", function () {
  this.timeout(60_000);

  it("repeats the transactions", async function () {
    const why = whyNoOxenstored();
    if (why !== undefined) return pending(this, why);
    await using daemon = await startOxenstored({ configuration: ["test-eagain = true"] });
    await using xs = client(daemon);
    await xs.write("/counter", "0");
    let bodies = 0;
    for (let round = 0; round < 100; round++) {
      await xs.transaction(
        async (transaction) => {
          bodies++;
          await transaction.write("/counter", String(Number(await transaction.readText("/counter")) + 1));
        },
        { attempts: 100 },
      );
    }
    expect(await xs.readText("/counter")).to.equal("100");
    expect(bodies).to.be.greaterThan(100);
  });
});

describe("XenStore client as a guest of the C xenstored", function () {
  this.timeout(60_000);
  let daemon: CDaemon;
  let driver: KernelDriver;
  let xs: XenStoreClient;

  before(async function () {
    const why = whyNoXenstored();
    if (why !== undefined) return pending(this, why);
    daemon = await startXenstored();
    driver = await KernelDriver.on(await daemon.guest(7), "linux");
    xs = new XenStoreClient(
      new DeviceTransport("/dev/xen/xenbus", "linux", { open: driver.open, release: "6.1" }),
    );
  });
  after(async () => {
    await xs?.close();
    await driver?.[Symbol.asyncDispose]();
    await daemon?.stop();
  });

  it("may do what its permissions say", async () => {
    expect(await xs.readText("name")).to.equal("guest-7");
    await xs.write("data/mine", "1");
    expect(await xs.readText("/local/domain/7/data/mine")).to.equal("1");
    expect(await xs.permissions("data/mine")).to.deep.equal([{ domain: 7, access: "none" }]);
    await rejects(xs.write("name", "other"), "ERR_PERMISSION");
    await rejects(xs.write("top", "1"), "ERR_PERMISSION");
    await rejects(xs.read("/tool/xenstored"), "ERR_PERMISSION");
    await rejects(xs.isIntroduced(7), "ERR_PERMISSION");
    await rejects(xs.setPermissions("data/mine", [{ domain: 0, access: "none" }]), "ERR_PERMISSION");
    expect(await xs.setPermissions("data/mine", [{ domain: 7, access: "read" }])).to.equal(true);
  });

  it("hears of a full node", async () => {
    await xs.write("data/full", "x".repeat(2015));
    await rejects(xs.write("data/full", "x".repeat(2016)), "ERR_NO_SPACE");
    expect(await xs.read("data/full")).to.have.lengthOf(2015);
  });

  it("waits for its turn when it has as many transactions as every daemon grants", async () => {
    const open = await Promise.all(Array.from({ length: 8 }, () => xs.begin()));
    await rejects(xs.begin({ timeoutMs: 20 }), "ERR_TIMEOUT");
    const waiting = xs.begin({ timeoutMs: 10_000 });
    await open[3]?.abort();
    await (await waiting).abort();
    await Promise.all(open.map((each) => each.abort()));
  });

  it("refuses more watches than every daemon grants", async () => {
    const watches = Array.from({ length: 100 }, (_, at) => xs.watch(`data/w${at}`, { timeoutMs: 10_000 }));
    await Promise.all(watches.map((each) => each.next()));
    await rejects(xs.watch("data/one-more").next(), "ERR_NO_SPACE");
    await Promise.all(watches.map((each) => each.return()));
    const again = xs.watch("data/w0", { timeoutMs: 10_000 });
    expect((await again.next()).value).to.have.property("reason", "registered");
    await again.return();
  });

  it("hears of a directory that is full, and of its quota of nodes", async () => {
    const fill = async (): Promise<number> => {
      for (let at = 0; ; at++) {
        const directory = `data/d${Math.floor(at / 150)}`;
        try {
          await xs.mkdir(`${directory}/n${at}`);
        } catch (error) {
          expect(error).to.have.property("code", "ERR_NO_SPACE");
          return at;
        }
      }
    };
    expect(await fill()).to.be.within(900, 1000);
    expect(await xs.rm("data/d0")).to.equal(true);
    await xs.write("data/d0", "room again");
  });
});
