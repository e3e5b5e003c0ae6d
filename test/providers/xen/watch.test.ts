import { expect } from "chai";
import { XenStoreSimulator } from "../../../providers/testing.js";
import { XenProvider, XenStore, XenStoreClient } from "../../../providers/xen/index.js";
import { keySyntax } from "../../../providers/xen/protocol/keys.js";
import { encodeMessage, encodeStrings, XS } from "../../../providers/xen/protocol/wire.js";
import { SocketTransport } from "../../../providers/xen/transport/socket.js";
import { Call } from "../../../src/base/flow/call.js";
import { nodeHost, SILENT } from "../../../src/base/host/node-host.js";
import type { PvbusErrorCode } from "../../../src/index.js";
import { pending } from "../../support/pending.js";
import { rejects } from "../../support/rejects.js";
import {
  type CDaemon,
  type Daemon,
  startOxenstored,
  startXenstored,
  whyNoOxenstored,
  whyNoXenstored,
} from "../../support/xen/daemons.js";
import { Replica } from "../../support/xen/replica.js";

async function storeAt(path: string): Promise<XenStore> {
  const provider = new XenProvider(nodeHost({ platform: "linux", env: {} }));
  return (await provider.open({ channel: `unix:${path}` }, new Call())) as XenStore;
}

/** Keys and values below a key. */
async function listed(store: XenStore, prefix: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const { key, value } of store.list(prefix, new Call({ timeoutMs: 30_000 })))
    if (value !== undefined) found.set(key, Buffer.from(value).toString("latin1"));
  return found;
}

function watches(title: string, why: string | undefined, start: () => Promise<Daemon>): void {
  describe(`XenStore store's watch on ${title}`, function () {
    this.timeout(60_000);
    let daemon: Daemon;
    let store: XenStore;

    before(async function () {
      if (why !== undefined) return pending(this, why);
      daemon = await start();
    });
    after(() => daemon?.stop());
    beforeEach(async () => {
      store = await storeAt(daemon.path);
    });
    afterEach(() => store.close());

    it("tells that a node is empty which was made again on the way to another one", async () => {
      await using replica = await Replica.of(store, "/again");
      const { client } = store;
      for (let round = 0; round < 20; round++) {
        const top = `/again/t${round}`;
        await client.write(`${top}/b`, "old");
        await replica.until((values) => values.get(`${top}/b`) === "old");
        await Promise.all([client.rm(top), client.write(`${top}/b/c`, "new")]);
        await replica.until((values) => values.get(`${top}/b/c`) === "new" && values.get(`${top}/b`) === "");
      }
      const values = new Map([...replica.values].filter(([key]) => key !== "/again"));
      expect(values).to.deep.equal(await listed(store, "/again"));
    });

    it("tells what its own top became that was removed and made again", async () => {
      const { client } = store;
      await client.write("/top/a/b", "old");
      await client.write("/top/gone", "1");
      await using replica = await Replica.of(store, "/top");
      await Promise.all([client.rm("/top"), client.write("/top/a/b/c", "2"), client.write("/top", "again")]);
      await replica.until((values) => values.get("/top") === "again" && values.get("/top/a/b/c") === "2");
      await replica.until((values) => values.get("/top/a/b") === "" && !values.has("/top/gone"));
    });

    it("goes on when the daemon is restarted in the middle of its own reads", async () => {
      for (let round = 0; round < 3; round++) {
        const { client } = store;
        await Promise.all(
          Array.from({ length: 100 }, (_, at) => client.write(`/busy/d${at % 10}/n${at}`, String(round))),
        );
        let stopped = false;
        await using replica = await Replica.of(store, "/busy", (key) => {
          if (key !== "/busy" || stopped) return;
          // Nothing of what it asks next, to compare what is below, is answered any more.
          stopped = daemon.child.kill("SIGSTOP");
        });
        client.write("/busy", "look").catch(() => undefined);
        await replica.until(() => stopped);
        await new Promise((resolve) => setImmediate(resolve));
        await daemon.restart();
        const again = await storeAt(daemon.path);
        await again.client.write("/busy/d1/later", String(round));
        await replica.until((values) => values.get("/busy/d1/later") === String(round));
        await replica.until((values) => values.size === 3);
        expect(replica.values).to.deep.equal(
          new Map([
            ["/busy", ""],
            ["/busy/d1", ""],
            ["/busy/d1/later", String(round)],
          ]),
        );
        await again.close();
      }
    });

    it("follows a directory of many names that changes all the time", async () => {
      const { client } = store;
      await Promise.all(Array.from({ length: 800 }, (_, at) => client.write(`/wide/n${at}`, "1")));
      const other = await storeAt(daemon.path);
      let isOver = false;
      const churn = async (name: string): Promise<void> => {
        while (!isOver) {
          await other.client.mkdir(`/wide/${name}`);
          await other.client.rm(`/wide/${name}`);
        }
      };
      const churning = ["c1", "c2", "c3", "c4"].map(churn);
      await using replica = await Replica.of(store, "/wide");
      for (let round = 0; round < 5; round++) {
        await client.write("/wide", String(round));
        await replica.until((values) => values.get("/wide") === String(round));
      }
      isOver = true;
      await Promise.all(churning);
      await client.write("/wide/end", "1");
      await replica.until((values) => values.has("/wide/end") && !values.has("/wide/c1"));
      await replica.until((values) => values.size === 802);
      await other.close();
    });

    it("tells keys of the longest path that the daemon takes", async () => {
      const { client } = store;
      await client.write("/local/domain/0/domid", "0");
      await using replica = await Replica.of(store, "");
      const long = `data/${"k".repeat(2048)}`;
      let length = 2048;
      for (; length > 0; length--) {
        const taken = await client.write(long.slice(0, length), "1").then(
          () => true,
          () => false,
        );
        if (taken) break;
      }
      await replica.until((values) => values.get(long.slice(0, length)) === "1");
      await client.write("data/short", "2");
      await replica.until((values) => values.get("data/short") === "2");
      expect(await listed(store, "")).to.include.keys(long.slice(0, length), "data/short");
      await client.rm("data");
    });

    it("lists names of more than 4096 bytes while they change all the time", async () => {
      const { client } = store;
      const names = Array.from({ length: 800 }, (_, at) => `n${String(at).padStart(6, "0")}`);
      await Promise.all(names.map((name) => client.mkdir(`/broad/${name}`)));
      const other = new XenStoreClient(new SocketTransport(daemon.path));
      let isOver = false;
      const churn = async (name: string): Promise<void> => {
        while (!isOver) {
          await other.mkdir(`/broad/${name}`);
          await other.rm(`/broad/${name}`);
        }
      };
      const churning = ["c1", "c2", "c3", "c4"].map(churn);
      for (let round = 0; round < 30; round++) {
        const found = (await client.directory("/broad", { timeoutMs: 20_000 })) ?? [];
        expect(found.filter((name) => name.startsWith("n")).sort()).to.deep.equal(names);
      }
      isOver = true;
      await Promise.all(churning);
      await other.close();
    });

    it("removes a tree of thousands of nodes", async () => {
      const { client } = store;
      await Promise.all(
        Array.from({ length: 3_000 }, (_, at) => client.write(`/big/d${at % 50}/n${at}`, "")),
      );
      expect(await store.delete("/big", new Call({ timeoutMs: 30_000 }))).to.equal(true);
      expect(await store.read("/big/d1", new Call())).to.equal(undefined);
      expect(await store.delete("/big", new Call())).to.equal(false);
    });
  });
}

watches("Debian's oxenstored", whyNoOxenstored(), startOxenstored);
watches("Debian's C xenstored", whyNoXenstored(), startXenstored);

describe("XenStore store of a guest of the C xenstored", function () {
  this.timeout(60_000);
  let daemon: CDaemon;

  before(async function () {
    const why = whyNoXenstored();
    if (why !== undefined) return pending(this, why);
    daemon = await startXenstored();
  });
  after(() => daemon?.stop());

  it("removes a tree of more nodes than a transaction may touch", async () => {
    const socket = await daemon.guest(7);
    const dom0 = await storeAt(daemon.path);
    const guest = new XenStore(new XenStoreClient(new SocketTransport(socket)), {
      syntax: keySyntax(false),
      logger: SILENT,
    });
    await Promise.all(
      Array.from({ length: 1_500 }, (_, at) =>
        dom0.client.write(`/local/domain/7/data/big/d${at % 30}/n${at}`, "x"),
      ),
    );
    expect(await guest.delete("data/big", new Call())).to.equal(true);
    expect(await guest.read("data/big", new Call())).to.equal(undefined);
    await guest.close();
    await dom0.close();
  });
});

describe("XenStore store's watch and what the daemon says", function () {
  this.timeout(20_000);

  interface Setting extends AsyncDisposable {
    readonly xen: XenStoreSimulator;
    readonly store: XenStore;
  }

  async function setting(): Promise<Setting> {
    const xen = await XenStoreSimulator.listen();
    const store = await storeAt(xen.path);
    return {
      xen,
      store,
      [Symbol.asyncDispose]: async () => {
        await store.close();
        await xen.close();
      },
    };
  }

  for (const error of ["EIO", "EINVAL", "ENOMEM", "ENOSPC", "EQUOTA", "EAGAIN", "EBUSY", "E2BIG", "EFUTURE"])
    it(`goes on after ${error} to what it asks`, async () => {
      await using given = await setting();
      const { xen, store } = given;
      xen.write("/w/a/b", "1");
      await using replica = await Replica.of(store, "/w");
      let left = 3;
      xen.faults.refuse = (request, path) =>
        ["READ", "DIRECTORY"].includes(request) && path.startsWith("/w") && left-- > 0 ? error : undefined;
      xen.write("/w", "look");
      xen.write("/w/a/b", "2");
      await replica.until((values) => values.get("/w/a/b") === "2" && values.get("/w") === "look");
    });

  for (const error of ["EIO", "EINVAL", "ENOMEM", "ENOSPC", "EQUOTA", "EEXIST", "E2BIG", "ENOSYS"])
    it(`goes on when ${error} is the answer to its registration after a restart`, async () => {
      await using given = await setting();
      const { xen, store } = given;
      await using replica = await Replica.of(store, "/w");
      let left = 2;
      xen.faults.refuse = (request) => (request === "WATCH" && left-- > 0 ? error : undefined);
      xen.disconnect();
      xen.write("/w/a", "2");
      await replica.until((values) => values.get("/w/a") === "2");
      xen.write("/w/b", "3");
      await replica.until((values) => values.get("/w/b") === "3");
    });

  it("goes on after an event of a path that is too long", async () => {
    await using given = await setting();
    const { xen, store } = given;
    await using replica = await Replica.of(store, "/w");
    xen.faults.mangle = (message) =>
      encodeMessage(
        message.type === XS.WATCH_EVENT && Buffer.from(message.payload).includes("/w/long")
          ? {
              ...message,
              payload: encodeStrings(
                `/w/${"x".repeat(3_500)}`,
                Buffer.from(message.payload).toString().split("\0")[1] ?? "",
              ),
            }
          : message,
      );
    xen.write("/w/long", "1");
    xen.write("/w/short", "2");
    await replica.until((values) => values.get("/w/short") === "2");
  });

  async function endOf(replica: Replica): Promise<unknown> {
    return replica.ended.then(
      () => "the end",
      (error: unknown) => error,
    );
  }

  it("ends when the daemon says that this domain may not follow any more", async () => {
    await using given = await setting();
    const { xen, store } = given;
    const replica = await Replica.of(store, "/w");
    xen.faults.refuse = (request) => (request === "WATCH" ? "EACCES" : undefined);
    xen.disconnect();
    expect(await endOf(replica)).to.have.property("code", "ERR_PERMISSION" satisfies PvbusErrorCode);
  });

  it("ends when the store is closed, also while nothing is answered", async () => {
    await using given = await setting();
    const { xen, store } = given;
    const replica = await Replica.of(store, "/w");
    xen.faults.mangle = () => undefined;
    xen.write("/w/a", "1");
    await store.close();
    expect(await endOf(replica)).to.have.property("code", "ERR_DISCONNECTED" satisfies PvbusErrorCode);
  });

  it("ends with its call, also while it looks again and again", async () => {
    await using given = await setting();
    const { xen, store } = given;
    const replica = await Replica.of(store, "/w");
    xen.faults.refuse = (request) => (request === "READ" ? "EIO" : undefined);
    xen.write("/w/a", "1");
    await replica[Symbol.asyncDispose]();
    expect(await endOf(replica)).to.equal("the end");
    const short = store.watch("/w", new Call({ timeoutMs: 50 }), { ready: () => undefined });
    expect((await short.next()).done).to.equal(true);
  });

  it("tells nothing gone that it cannot list, nor again what did not change", async () => {
    await using given = await setting();
    const { xen, store } = given;
    xen.write("/w/a/b", "1");
    xen.write("/w/a/c", "1");
    const told: string[] = [];
    await using replica = await Replica.of(store, "/w", (key) => void told.push(key));
    xen.faults.refuse = (request, path) =>
      request === "DIRECTORY" && path === "/w/a"
        ? "E2BIG"
        : request === "DIRECTORY_PART"
          ? "ENOSYS"
          : undefined;
    xen.write("/w", "look");
    xen.write("/w/end", "1");
    await replica.until((values) => values.has("/w/end"));
    expect(replica.values).to.include.keys("/w/a/b", "/w/a/c");
    xen.faults.refuse = undefined;
    told.length = 0;
    xen.disconnect();
    xen.write("/w/a/b", "2");
    await replica.until((values) => values.get("/w/a/b") === "2");
    xen.write("/w/last", "1");
    await replica.until((values) => values.has("/w/last"));
    // The new registration's own event is one of the top.
    expect(new Set(told.filter((key) => key !== "/w"))).to.deep.equal(new Set(["/w/a/b", "/w/last"]));
  });

  it("leaves out, as a listing does, what the daemon lists but does not take for its length", async () => {
    await using given = await setting();
    const { xen, store } = given;
    const long = `/w/${"x".repeat(1_500)}`;
    xen.write("/w/a", "1");
    xen.write(long, "1");
    xen.faults.refuse = (_request, path) => (path === long ? "EINVAL" : undefined);
    expect(await listed(store, "/w")).to.deep.equal(new Map([["/w/a", "1"]]));
    await using replica = await Replica.of(store, "/w");
    xen.write(long, "2");
    xen.write("/w/a", "2");
    await replica.until((values) => values.get("/w/a") === "2");
    expect(replica.values).to.have.all.keys("/w", "/w/a");
  });
});

describe("XenStore transactions beside others", function () {
  this.timeout(20_000);

  it("are repeated until their time is over, or as often as is asked", async () => {
    await using xen = await XenStoreSimulator.listen();
    await using xs = new XenStoreClient(new SocketTransport(xen.path));
    const add = (options?: object): Promise<void> =>
      xs.transaction((transaction) => transaction.write("/n", "1"), options);
    xen.faults.conflicts = 25;
    await add();
    expect(xen.faults.conflicts).to.equal(0);
    xen.faults.conflicts = 3;
    const error = await rejects(add({ attempts: 3 }), "ERR_CONFLICT");
    expect(error.message).to.include("3 attempts");
    xen.faults.conflicts = 1_000_000;
    const begin = performance.now();
    await rejects(add({ timeoutMs: 200 }), "ERR_CONFLICT");
    expect(performance.now() - begin).to.be.greaterThan(100);
    expect(await add({ attempts: 0 }).catch((error: unknown) => error)).to.be.instanceOf(RangeError);
  });
});
