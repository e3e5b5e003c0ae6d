import { renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRecord } from "../../../providers/hyperv/codec.js";
import type { PvInterface, StoreChange } from "../../../src/index.js";
import { HypervHostSimulator } from "../../../src/testing/index.js";
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

  it("says of a prefix outside every pool that it is invalid", async () => {
    const iterator = (await tree.open()).watch("Nope")[Symbol.asyncIterator]();
    await rejects(iterator.next(), "ERR_KEY_INVALID");
  });
});
