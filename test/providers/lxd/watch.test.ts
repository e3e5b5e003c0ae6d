import { expect } from "chai";
import { LxdSimulator } from "../../../providers/testing.js";
import { Call } from "../../../src/base/flow/call.js";
import { follow, storeWith } from "../../support/lxd/simulated.js";

/** Waits until something is so. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** No look happens unasked in these tests unless they say so. */
const NEVER = 600_000;

describe("LxdStore's watch", () => {
  for (const instanceType of ["container", "virtual-machine"] as const)
    it(`tells what is set, changed and removed in a ${instanceType}, once each`, async () => {
      await using lxd = await LxdSimulator.listen({
        instanceType,
        keys: { "user.a": "before", "user.b/c": "1" },
      });
      const store = await storeWith(lxd, {}, NEVER);
      const watch = await follow(store, "user");
      lxd.set("user.a", "<after>");
      await watch.comes("user.a", "<after>");
      lxd.set("user.b/c", undefined);
      await watch.comes("user.b/c", undefined);
      lxd.set("user.new", "n");
      await watch.comes("user.new", "n");
      expect(watch.changes).to.deep.equal([
        ["user.a", "<after>"],
        ["user.b/c", undefined],
        ["user.new", "n"],
      ]);
      await watch.end();
      await until(() => lxd.streams === 0);
      await store.close();
    });

  it("shares one stream among all watches of a store, and lets it go with the last", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await storeWith(lxd, {}, NEVER);
    const [one, two] = [await follow(store, "user.one"), await follow(store, "user.two")];
    expect(lxd.streams).to.equal(1);
    lxd.set("user.two", "2");
    lxd.set("user.one.x", "1");
    await Promise.all([one.comes("user.one.x", "1"), two.comes("user.two", "2")]);
    await one.end();
    expect(lxd.streams).to.equal(1);
    lxd.set("user.two", "3");
    await two.comes("user.two", "3");
    await two.end();
    await until(() => lxd.streams === 0);
    const again = await follow(store, "user");
    lxd.set("user.two", "4");
    await again.comes("user.two", "4");
    await again.end();
    await store.close();
  });

  it("reads all when the stream was lost: what changed meanwhile is told, what came back is not", async () => {
    await using lxd = await LxdSimulator.listen({ keys: { "user.a": "1", "user.b": "1", "user.same": "s" } });
    const store = await storeWith(lxd, {}, NEVER);
    const watch = await follow(store);
    await lxd.kill();
    lxd.set("user.a", "2");
    lxd.set("user.b", undefined);
    lxd.set("user.c", "3");
    lxd.set("user.same", "other");
    lxd.set("user.same", "s");
    await lxd.start();
    for (const [key, value] of [
      ["user.a", "2"],
      ["user.b", undefined],
      ["user.c", "3"],
    ] as const)
      await watch.comes(key, value);
    expect(new Map(watch.changes)).to.deep.equal(
      new Map([
        ["user.b", undefined],
        ["user.a", "2"],
        ["user.c", "3"],
      ]),
    );
    await watch.end();
    await store.close();
  });

  it("survives kills at any moment", async () => {
    await using lxd = await LxdSimulator.listen({ keys: { "user.a": "0" } });
    const store = await storeWith(lxd, { goodMs: 0 }, 50);
    const watch = await follow(store);
    for (let round = 1; round <= 15; round++) {
      lxd.set("user.a", `${round}`);
      if (round % 3 === 0) await new Promise((resolve) => setTimeout(resolve, round));
      await lxd.kill();
      await lxd.start();
    }
    await watch.comes("user.a", "15");
    await watch.end();
    await store.close();
  });

  it("takes a peer that does not ping for dead, and one that never pings for none", async () => {
    await using lxd = await LxdSimulator.listen({ pingMs: 600_000 });
    const store = await storeWith(lxd, { silentMs: 200, goodMs: 0 }, NEVER);
    const watch = await follow(store);
    const streams = (): number => lxd.requests.filter(({ upgrade }) => upgrade).length;
    expect(streams()).to.equal(1);
    lxd.faults.mute = true;
    lxd.set("user.a", "unheard");
    await watch.comes("user.a", "unheard");
    expect(streams()).to.equal(2);
    lxd.faults.noPing = true;
    await until(() => streams() >= 4);
    lxd.faults.noPing = false;
    lxd.set("user.a", "heard at last");
    await watch.comes("user.a", "heard at last");
    await watch.end();
    await store.close();
  });

  it("looks for what no event tells: cloud-init's keys, and keys that came or went unheard", async () => {
    await using lxd = await LxdSimulator.listen({
      keys: { "cloud-init.user-data": "old", "user.gone": "1" },
    });
    const store = await storeWith(lxd);
    const watch = await follow(store);
    lxd.faults.mute = true;
    lxd.set("cloud-init.user-data", "new");
    lxd.set("user.gone", undefined);
    lxd.set("user.came", "1");
    await watch.comes("cloud-init.user-data", "new");
    await watch.comes("user.gone", undefined);
    await watch.comes("user.came", "1");
    await watch.end();
    await store.close();
  });

  it("goes on while the API is switched off, and tells what it finds afterwards", async () => {
    for (const instanceType of ["container", "virtual-machine"] as const) {
      await using lxd = await LxdSimulator.listen({ instanceType });
      const store = await storeWith(lxd);
      const watch = await follow(store);
      await lxd.enable(false);
      lxd.set("user.a", "while it was off");
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(watch.changes).to.deep.equal([]);
      await lxd.enable(true);
      await watch.comes("user.a", "while it was off");
      await watch.end();
      await store.close();
    }
  });

  it("passes over a value that is too long, and does not end", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await storeWith(lxd);
    const watch = await follow(store);
    lxd.set("user.big", "b".repeat((1 << 20) + 1));
    lxd.set("user.small", "s");
    await watch.comes("user.small", "s");
    lxd.set("user.big", "fits");
    await watch.comes("user.big", "fits");
    await watch.end();
    await store.close();
  });

  it("ends with what lasts: no root any more, and a closed store", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await storeWith(lxd, { goodMs: 0 });
    const watch = await follow(store);
    lxd.faults.notRoot = true;
    lxd.disconnect();
    expect(await watch.ended).to.have.property("code", "ERR_PERMISSION");
    lxd.faults.notRoot = false;
    const other = await follow(store);
    await store.close();
    expect(await other.ended).to.have.property("code", "ERR_DISCONNECTED");
    await until(() => lxd.streams === 0);
  });

  it("tells the host again that it is ready when a daemon came back without knowing", async () => {
    await using lxd = await LxdSimulator.listen();
    const store = await storeWith(lxd, {}, NEVER);
    await store.ready({ ready: true, bootId: "b", time: "2026-01-01T00:00:00Z" }, new Call());
    const watch = await follow(store);
    expect(lxd.state).to.equal("Ready");
    await lxd.kill();
    expect(lxd.state).to.equal("Started");
    await lxd.start();
    await until(() => lxd.state === "Ready");
    await watch.end();
    await store.close();
  });
});
