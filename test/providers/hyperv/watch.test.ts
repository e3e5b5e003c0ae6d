import {
  mkdirSync,
  mkdtempSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { capabilitiesOf } from "../../../providers/hyperv/capabilities.js";
import { completeOptions } from "../../../providers/hyperv/options.js";
import type { PoolInfo } from "../../../providers/hyperv/protocol/keys.js";
import { encodeRecord } from "../../../providers/hyperv/protocol/record.js";
import { HypervStore } from "../../../providers/hyperv/store.js";
import { notifyFiles } from "../../../providers/hyperv/transport/files/notify.js";
import type { PoolPair, PoolTransport } from "../../../providers/hyperv/transport/pool.js";
import { HypervHostSimulator } from "../../../providers/testing.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import type { RawEntry } from "../../../src/contract/store.js";
import { Call, type PvInterface, type StoreChange } from "../../../src/index.js";
import { PoolTree } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";

const pair = (key: string, value: string): Buffer =>
  encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });

/** Starts a watch and resolves when it is armed; `take` waits for the next changes. */
async function startWatch(
  hv: PvInterface,
  prefix: string,
  signal?: AbortSignal,
): Promise<{ take(count: number): Promise<StoreChange[]>; end(): Promise<IteratorResult<StoreChange>> }> {
  let ready: () => void = () => undefined;
  const armed = new Promise<void>((resolve) => {
    ready = resolve;
  });
  const changes = hv.watch(prefix, { signal, ready })[Symbol.asyncIterator]();
  let pending: Promise<IteratorResult<StoreChange>> | undefined = changes.next();
  await armed;
  const next = (): Promise<IteratorResult<StoreChange>> => {
    const result = pending ?? changes.next();
    pending = undefined;
    return result;
  };
  return {
    take: async (count) => {
      const taken: StoreChange[] = [];
      while (taken.length < count) {
        const { value, done } = await next();
        if (done) break;
        taken.push(value as StoreChange);
      }
      return taken;
    },
    end: next,
  };
}

describe("HypervStore watch", () => {
  let tree: PoolTree;
  beforeEach(() => {
    tree = new PoolTree();
  });
  afterEach(() => tree[Symbol.asyncDispose]());

  it("tells what an administrator adds, modifies and removes", async () => {
    const host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
    await host.addKvpItems([{ name: "old", data: "stays" }]);
    const watch = await startWatch(await tree.open(), "External");
    await host.addKvpItems([{ name: "role", data: "web" }]);
    expect(await watch.take(1)).to.deep.equal([{ key: "External/role", value: "web" }]);
    await host.modifyKvpItems([{ name: "role", data: "db" }]);
    expect(await watch.take(1)).to.deep.equal([{ key: "External/role", value: "db" }]);
    await host.removeKvpItems(["role"]);
    expect(await watch.take(1)).to.deep.equal([{ key: "External/role", value: undefined }]);
  });

  it("never shows the empty file that the daemon makes for an instant", async () => {
    const host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
    const items = Array.from({ length: 100 }, (_, i) => ({ name: `k${i}`, data: "v" }));
    await host.addKvpItems(items);
    const watch = await startWatch(await tree.open(), "External");
    for (let i = 0; i < 30; i++) await host.modifyKvpItems([{ name: "k50", data: `v${i}` }]);
    await host.modifyKvpItems([{ name: "k99", data: "end" }]);
    const seen: StoreChange[] = [];
    while (seen.at(-1)?.key !== "External/k99") seen.push(...(await watch.take(1)));
    expect(seen.filter(({ value }) => value === undefined)).to.deep.equal([]);
    expect(new Set(seen.map(({ key }) => key))).to.deep.equal(new Set(["External/k50", "External/k99"]));
  });

  it("covers all pools for the empty prefix, and a part of a pool for a longer one", async () => {
    const writer = await tree.open({ writablePools: ["External"] });
    const all = await startWatch(await tree.open(), "");
    const part = await startWatch(await tree.open(), "Guest/app.");
    await writer.write("External/e", "1");
    expect(await all.take(1)).to.deep.equal([{ key: "External/e", value: "1" }]);
    await writer.write("Guest/other", "2");
    await writer.write("Guest/app.x", "3");
    expect(await part.take(1)).to.deep.equal([{ key: "Guest/app.x", value: "3" }]);
  });

  it("ends without an error when the signal fires, at once when it has fired before", async () => {
    const controller = new AbortController();
    const watch = await startWatch(await tree.open(), "Guest", controller.signal);
    const end = watch.end();
    controller.abort();
    expect((await end).done).to.equal(true);
    const late: unknown[] = [];
    for await (const change of (await tree.open()).watch("Guest", { signal: controller.signal }))
      late.push(change);
    expect(late).to.deep.equal([]);
  });

  it("ends without an error at its time limit", async () => {
    for await (const _ of (await tree.open()).watch("Guest", { timeoutMs: 50 }))
      expect.fail("nothing changes here");
  });

  it("ends with ERR_DISCONNECTED when the interface is closed", async () => {
    const hv = await tree.open();
    const watch = await startWatch(hv, "Guest");
    const end = watch.end();
    await hv.close();
    await rejects(end, "ERR_DISCONNECTED");
  });

  it("follows a pool file that is replaced, or missing for a while", async () => {
    tree.put(0, pair("k", "1"));
    const watch = await startWatch(await tree.open(), "External");
    writeFileSync(join(tree.directory, "new"), pair("k", "2"));
    renameSync(join(tree.directory, "new"), tree.path(0));
    expect(await watch.take(1)).to.deep.equal([{ key: "External/k", value: "2" }]);
    rmSync(tree.path(0));
    await new Promise((resolve) => setTimeout(resolve, 50));
    writeFileSync(tree.path(0), Buffer.concat([pair("k", "2"), pair("l", "3")]));
    expect(await watch.take(1)).to.deep.equal([{ key: "External/l", value: "3" }]);
  });

  describe("while the directory comes and goes", () => {
    /** Makes the directory and External with these pairs. */
    const make = (...pairs: [string, string][]): void => {
      mkdirSync(tree.directory, { recursive: true });
      tree.put(0, Buffer.concat(pairs.map(([key, value]) => pair(key, value))));
    };
    /** Changes External and expects that alone to be told. */
    const expectLive = async (
      watch: Awaited<ReturnType<typeof startWatch>>,
      value: string,
    ): Promise<void> => {
      make(["k", "1"], ["live", value]);
      expect(await watch.take(1)).to.deep.equal([{ key: "External/live", value }]);
    };

    it("comes back when it was removed and made again, and tells what changed meanwhile", async () => {
      make(["k", "1"], ["gone", "x"]);
      const watch = await startWatch(await tree.open(), "External");
      for (const round of ["1", "2", "3"]) {
        rmSync(tree.directory, { recursive: true });
        make(["k", "1"], ["meanwhile", round]);
        const expected = [{ key: "External/meanwhile", value: round }];
        const before = round === "1" ? "gone" : "live";
        expect(await watch.take(2)).to.have.deep.members([
          ...expected,
          { key: `External/${before}`, value: undefined },
        ]);
        make(["k", "1"], ["meanwhile", round], ["live", round]);
        expect(await watch.take(1)).to.deep.equal([{ key: "External/live", value: round }]);
      }
    });

    it("comes back when another one was renamed into its place", async () => {
      make(["k", "1"]);
      const watch = await startWatch(await tree.open(), "External");
      const other = `${tree.directory}.new`;
      mkdirSync(other);
      writeFileSync(join(other, ".kvp_pool_0"), pair("k", "2"));
      renameSync(tree.directory, `${tree.directory}.old`);
      renameSync(other, tree.directory);
      expect(await watch.take(1)).to.deep.equal([{ key: "External/k", value: "2" }]);
      make(["k", "1"]);
      expect(await watch.take(1)).to.deep.equal([{ key: "External/k", value: "1" }]);
    });

    it("begins with one that does not exist yet, nor its parents", async () => {
      const hv = await tree.open({ directory: "/var/lib/hyperv" });
      rmSync(join(tree.sysroot, "var"), { recursive: true });
      const watch = await startWatch(hv, "External");
      make(["k", "1"]);
      expect(await watch.take(1)).to.deep.equal([{ key: "External/k", value: "1" }]);
      await expectLive(watch, "1");
    });

    it("comes back when its parent was removed and made again", async () => {
      make(["k", "1"]);
      const watch = await startWatch(await tree.open(), "External");
      rmSync(dirname(dirname(tree.directory)), { recursive: true });
      await new Promise((resolve) => setImmediate(resolve));
      make(["k", "2"]);
      expect(await watch.take(1)).to.deep.equal([{ key: "External/k", value: "2" }]);
      make(["k", "1"]);
      expect(await watch.take(1)).to.deep.equal([{ key: "External/k", value: "1" }]);
      await expectLive(watch, "1");
    });

    it("follows a link to it that is led elsewhere, and what lies behind the link", async () => {
      const place = mkdtempSync(join(realpathSync(tmpdir()), "pvbus-behind-"));
      const bells: (() => void)[] = [];
      const rung = (): Promise<void> => new Promise((resolve) => bells.push(resolve));
      const link = join(place, "link");
      for (const name of ["a/pool", "b/pool"]) mkdirSync(join(place, name), { recursive: true });
      symlinkSync(join(place, "a/pool"), link);
      const stop = notifyFiles({
        host: nodeHost(),
        directory: link,
        files: ["file"],
        ring: () => {
          for (const each of bells.splice(0)) each();
        },
      });
      try {
        let bell = rung();
        writeFileSync(join(place, "a/pool/file"), "1");
        await bell;
        bell = rung();
        renameSync(join(place, "a"), join(place, "c"));
        await bell;
        bell = rung();
        mkdirSync(join(place, "a/pool"), { recursive: true });
        await bell;
        bell = rung();
        symlinkSync(join(place, "b/pool"), `${link}.new`);
        renameSync(`${link}.new`, link);
        await bell;
        bell = rung();
        writeFileSync(join(place, "b/pool/file"), "1");
        await bell;
      } finally {
        stop();
        rmSync(place, { recursive: true });
      }
    });

    it("looks once a second where changes inside files are not notified", async () => {
      let ring = (): void => undefined;
      const rung = new Promise<void>((resolve) => {
        ring = resolve;
      });
      make(["k", "1"]);
      const stop = notifyFiles({
        host: nodeHost(),
        directory: tree.directory,
        files: [".kvp_pool_0"],
        ring,
        reportsContent: false,
      });
      make(["k", "2"]);
      await rung;
      stop();
    });
  });

  it("compares 100,000 pairs in several turns of the event loop", async () => {
    const many = (last: string): Map<string, PoolPair> => {
      const value = Buffer.alloc(2_000, "v");
      const pairs = Array.from({ length: 100_000 }, (_, at): [string, PoolPair] => [
        `k${at}`,
        { key: `k${at}`, value },
      ]);
      return new Map(pairs).set("last", { key: "last", value: Buffer.from(last) });
    };
    const states = [many("a"), many("b")];
    let ring = (): void => undefined;
    let turns = 0;
    let counting = setImmediate(() => undefined);
    const count = (): void => {
      turns++;
      counting = setImmediate(count);
    };
    const transport = {
      notify: (_pools: unknown, given: () => void) => {
        ring = given;
        return () => undefined;
      },
      pool: (info: PoolInfo) => ({ info, snapshot: async () => states.shift() }),
    };
    const capabilities = capabilitiesOf("files", completeOptions());
    const store = new HypervStore(transport as unknown as PoolTransport, capabilities);
    const changes = store.watch("Guest", new Call({ timeoutMs: 30_000 }), {
      ready: () =>
        setImmediate(() => {
          ring();
          counting = setImmediate(count);
        }),
    });
    const first = await changes.next();
    clearImmediate(counting);
    await changes.return();
    expect((first.value as RawEntry).key).to.equal("Guest/last");
    expect(turns).to.be.greaterThan(2);
  });

  it("says of a prefix outside every pool that it is invalid", async () => {
    const iterator = (await tree.open()).watch("Nope")[Symbol.asyncIterator]();
    await rejects(iterator.next(), "ERR_KEY_INVALID");
  });
});
