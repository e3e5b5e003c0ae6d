import { chmodSync, existsSync, readdirSync, rmSync, statSync, unlinkSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { FREEBSD_KVP, LINUX_KVP, replyStatus } from "../../../../providers/hyperv/protocol/messages.js";
import { encodeRecord } from "../../../../providers/hyperv/protocol/record.js";
import { KvpStatus } from "../../../../providers/hyperv/protocol/status.js";
import { removeRecords } from "../../../../providers/hyperv/transport/files/removal.js";
import { RunningDaemon } from "../../../support/kvp-daemon.js";
import { killedStates, RecordingPool } from "../../../support/pool-images.js";
import { fixture, PoolTree, pairsOf } from "../../../support/pools.js";

const bytes = (text: string): Buffer => Buffer.from(text);
const records = (...pairs: [string, string][]): Buffer =>
  Buffer.concat(pairs.map(([key, value]) => encodeRecord({ key: bytes(key), value: bytes(value) })));

describe("KVP daemon: pools", () => {
  it("makes the directory and five files, as the vendor's does", async () => {
    await using tree = new PoolTree();
    rmSync(tree.directory, { recursive: true });
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(readdirSync(tree.directory).sort()).to.deep.equal([0, 1, 2, 3, 4].map((n) => `.kvp_pool_${n}`));
    expect(statSync(tree.directory).mode & 0o777).to.equal(0o755 & ~process.umask());
    expect(statSync(tree.path(0)).mode & 0o777).to.equal(0o644 & ~process.umask());
    expect(await daemon.enumerate(0)).to.deep.equal([]);
  });

  it("keeps the mode of existing files, and takes them from others when asked to", async () => {
    await using tree = new PoolTree();
    chmodSync(tree.path(0), 0o640);
    await (await RunningDaemon.start(tree.sysroot)).stop();
    expect(statSync(tree.path(0)).mode & 0o777).to.equal(0o640);
    await (await RunningDaemon.start(tree.sysroot, { privatePools: true })).stop();
    expect(statSync(tree.path(0)).mode & 0o777).to.equal(0o600);
    expect(statSync(tree.path(4)).mode & 0o777).to.equal(0o600);
  });

  for (const pool of [0, 1, 3, 4]) {
    it(`serves SET, GET, ENUMERATE and DELETE of pool ${pool}`, async () => {
      await using tree = new PoolTree();
      await using daemon = await RunningDaemon.start(tree.sysroot);
      expect(await daemon.set(pool, "alpha", "one")).to.equal(0);
      expect(await daemon.set(pool, "beta", "two")).to.equal(0);
      expect(await daemon.set(pool, "alpha", "1")).to.equal(0);
      expect(await daemon.enumerate(pool)).to.deep.equal([
        ["alpha", "1"],
        ["beta", "two"],
      ]);
      const get = { operation: "get", pool, key: bytes("beta"), valueSize: 2048 } as const;
      const reply = await daemon.driver.request(get);
      expect(replyStatus(reply)).to.equal(0);
      expect(reply.subarray(528, 532).toString("latin1")).to.equal("two\0");
      const empty = await daemon.driver.request({ ...get, valueSize: 0 });
      expect([replyStatus(empty), empty[528]]).to.deep.equal([0, 0]);
      expect(await daemon.delete(pool, "alpha")).to.equal(0);
      expect(await daemon.delete(pool, "alpha")).to.equal(KvpStatus.noMoreItems);
      expect(await daemon.status({ ...get, key: bytes("alpha") })).to.equal(KvpStatus.noMoreItems);
      expect(tree.get(pool)).to.deep.equal(records(["beta", "two"]));
    });
  }

  it("enumerates by position: unused slots and duplicates count, tails stay behind", async () => {
    await using tree = new PoolTree();
    tree.put(0, fixture("pool0_empty_key.bin"));
    tree.put(1, fixture("pool1_duplicates_before.bin"));
    tree.put(3, fixture("pool0_stale_after_modify.bin"));
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.enumerate(0)).to.deep.equal([
      ["", "value of the empty key"],
      ["after", "x"],
    ]);
    expect(await daemon.enumerate(1)).to.deep.equal([
      ["dup", "1"],
      ["other", "o"],
      ["dup", "2"],
    ]);
    const reply = await daemon.driver.request({ operation: "enumerate", pool: 3, index: 1 });
    expect(reply.subarray(532, 2580).toString("latin1").replace(/\0+$/, "")).to.equal("x");
  });

  it("changes the first of duplicates, as the vendor's does", async () => {
    await using tree = new PoolTree();
    tree.put(1, fixture("pool1_duplicates_before.bin"));
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.set(1, "dup", "new")).to.equal(0);
    expect(pairsOf(tree.get(1))).to.deep.equal(pairsOf(fixture("pool1_duplicates_after_daemon_set.bin")));
    tree.put(1, fixture("pool1_duplicates_before.bin"));
    expect(await daemon.delete(1, "dup")).to.equal(0);
    expect(pairsOf(tree.get(1))).to.deep.equal(pairsOf(fixture("pool1_duplicates_after_daemon_delete.bin")));
  });

  it("changes and removes the first of duplicates alone, equal ones too, as the vendor's does", async () => {
    await using tree = new PoolTree();
    const left = records(["k", "a"], ["o", "o"], ["k", "a"], ["p", "p"], ["k", "b"]);
    tree.put(0, left);
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.set(0, "k", "c")).to.equal(0);
    expect(tree.get(0)).to.deep.equal(records(["k", "c"], ["o", "o"], ["k", "a"], ["p", "p"], ["k", "b"]));
    tree.put(0, left);
    expect(await daemon.delete(0, "k")).to.equal(0);
    expect(tree.get(0)).to.deep.equal(records(["o", "o"], ["k", "a"], ["p", "p"], ["k", "b"]));
  });

  it("keeps all records of a key when it starts, the newest too", async () => {
    await using tree = new PoolTree();
    // The value of the second record crosses a page border after 1024 bytes.
    const left = records(
      ["a", "1"],
      ["k", "o".repeat(1500)],
      ["k", "m".repeat(1500)],
      ["k", "n".repeat(1400)],
    );
    tree.put(0, left);
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect((await daemon.enumerate(0)).length).to.equal(4);
    expect(tree.get(0)).to.deep.equal(left);
  });

  it("settles what a killed change left: nothing is doubled, and later changes take effect", async () => {
    const start = records(
      ...Array.from({ length: 12 }, (_, i): [string, string] => [`k${i}`, "v".repeat(i * 150)]),
    );
    const killed = new RecordingPool(start);
    killed.run(removeRecords(killed, [0], false));
    const states = [...killedStates(start, killed.steps)];
    for (const state of states.filter((_, at) => at % 5 === 2)) {
      await using tree = new PoolTree();
      tree.put(0, state);
      await using daemon = await RunningDaemon.start(tree.sysroot);
      const list = await daemon.enumerate(0);
      const left = list.filter(([key]) => key !== "k0").map(([key]) => key);
      expect(left).to.deep.equal(Array.from({ length: 11 }, (_, i) => `k${i + 1}`));
      for (const key of left) expect(await daemon.set(0, key, "new")).to.equal(0);
      expect(
        (await daemon.enumerate(0)).filter(([key, value]) => key !== "k0" && value !== "new"),
      ).to.deep.equal([]);
      for (const key of left) expect(await daemon.delete(0, key)).to.equal(0);
      expect((await daemon.enumerate(0)).filter(([key]) => key !== "k0")).to.deep.equal([]);
    }
  });

  it("settles it for the host too where another program is killed meanwhile", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    const start = records(
      ...Array.from({ length: 12 }, (_, i): [string, string] => [`k${i}`, "v".repeat(i * 80)]),
    );
    const killed = new RecordingPool(start);
    killed.run(removeRecords(killed, [0], false));
    for (const state of [...killedStates(start, killed.steps)].filter((_, at) => at % 5 === 2)) {
      tree.put(1, state);
      const keys = (await daemon.enumerate(1)).map(([key]) => key).filter((key) => key !== "k0");
      expect(keys).to.deep.equal(Array.from({ length: 11 }, (_, i) => `k${i + 1}`));
    }
  });

  it("serves the empty key, which a host may set", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.set(0, "", "one")).to.equal(0);
    expect(await daemon.set(0, "a", "b")).to.equal(0);
    expect(await daemon.set(0, "", "two")).to.equal(0);
    expect(await daemon.enumerate(0)).to.deep.equal([
      ["", "two"],
      ["a", "b"],
    ]);
    expect(await daemon.delete(0, "")).to.equal(0);
    expect(await daemon.delete(0, "")).to.equal(KvpStatus.noMoreItems);
    expect(await daemon.enumerate(0)).to.deep.equal([["a", "b"]]);
  });

  it("replaces a torn tail by the next record", async () => {
    await using tree = new PoolTree();
    tree.put(1, fixture("pool1_torn_before.bin"));
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.enumerate(1)).to.deep.equal([["a", "1"]]);
    expect(await daemon.set(1, "n", "n")).to.equal(0);
    expect(pairsOf(tree.get(1))).to.deep.equal(pairsOf(fixture("pool1_torn_after_daemon_set.bin")));
  });

  it("a value of a type that the driver does not know leaves a record as it is, and makes an empty new one", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    await daemon.set(0, "there", "before");
    const set = { operation: "set", pool: 0, value: undefined } as const;
    expect(await daemon.status({ ...set, key: bytes("there") })).to.equal(0);
    expect(await daemon.status({ ...set, key: bytes("new") })).to.equal(0);
    expect(await daemon.enumerate(0)).to.deep.equal([
      ["there", "before"],
      ["new", ""],
    ]);
  });

  it("keeps what the host may send at most, in characters of three bytes", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    const [key, value] = ["日".repeat(170), "日".repeat(682)];
    expect(await daemon.set(0, key, value)).to.equal(0);
    expect(await daemon.set(0, "k".repeat(511), "v".repeat(2047))).to.equal(0);
    expect(await daemon.enumerate(0)).to.deep.equal([
      [key, value],
      ["k".repeat(511), "v".repeat(2047)],
    ]);
  });

  it("shows the host a guest's invalid UTF-8 as text, so that it sees the records behind it", async () => {
    await using tree = new PoolTree();
    const bad = encodeRecord({ key: Buffer.from([0x6b, 0xff]), value: Buffer.from([0xe6, 0x97]) });
    tree.put(1, Buffer.concat([bad, records(["behind", "it"])]));
    tree.put(0, bad);
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.enumerate(1)).to.deep.equal([
      ["k\ufffd", "\ufffd"],
      ["behind", "it"],
    ]);
    const raw = await daemon.driver.request({ operation: "enumerate", pool: 0, index: 0 });
    expect([...raw.subarray(20, 23)]).to.deep.equal([0x6b, 0xff, 0]);
  });

  it("gives fields without an end one", async () => {
    await using tree = new PoolTree();
    const endless = Buffer.alloc(2560, 0x61);
    tree.put(1, endless);
    tree.put(3, endless);
    await using daemon = await RunningDaemon.start(tree.sysroot);
    for (const pool of [1, 3]) {
      expect(await daemon.enumerate(pool)).to.deep.equal([["a".repeat(511), "a".repeat(2047)]]);
      expect(await daemon.set(pool, "x", "y")).to.equal(0);
      expect(await daemon.delete(pool, "x")).to.equal(0);
    }
  });

  it("refuses changes of the Auto pool and every pool that there is not", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    expect(await daemon.set(2, "OSName", "x")).to.equal(KvpStatus.noMoreItems);
    expect(await daemon.delete(2, "OSName")).to.equal(KvpStatus.noMoreItems);
    for (let pool = 5; pool <= 255; pool++) {
      expect(await daemon.set(pool, "k", "v")).to.equal(KvpStatus.noMoreItems);
      expect(await daemon.delete(pool, "k")).to.equal(KvpStatus.noMoreItems);
      expect(await daemon.enumerate(pool)).to.deep.equal([]);
    }
    expect(await daemon.set(0, "k", "v")).to.equal(0);
    expect(await daemon.status({ operation: "unknown", number: 100 })).to.equal(KvpStatus.notSupported);
  });

  it("makes a pool anew that was removed, and follows one that was replaced", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    await daemon.set(0, "k", "v");
    unlinkSync(tree.path(0));
    expect(await daemon.enumerate(0)).to.deep.equal([]);
    expect(await daemon.set(0, "n", "w")).to.equal(0);
    expect(existsSync(join(tree.directory, ".kvp_pool_0"))).to.equal(true);
    expect(await daemon.enumerate(0)).to.deep.equal([["n", "w"]]);
  });

  it("serves overlays of the Auto pool where it is told to", async () => {
    await using tree = new PoolTree();
    const auto = {
      setIntegrationServicesVersion: () => undefined,
      entry: (at: number) =>
        [
          { key: "OSName", value: "Debian" },
          { key: "OSVersion", value: "12" },
        ][at],
    };
    tree.put(2, records(["OSName", "Appliance"], ["Own", "x"]));
    await using plain = await RunningDaemon.start(tree.sysroot, { auto });
    expect(await plain.enumerate(2)).to.deep.equal([
      ["OSName", "Debian"],
      ["OSVersion", "12"],
    ]);
    await using overlaid = await RunningDaemon.start(tree.sysroot, { auto, overlayAuto: true });
    expect(await overlaid.enumerate(2)).to.deep.equal([
      ["OSName", "Appliance"],
      ["OSVersion", "12"],
    ]);
  });

  for (const [platform, layout, place] of [
    ["linux", LINUX_KVP, "var/lib/hyperv"],
    ["freebsd", FREEBSD_KVP, "var/db/hyperv/pool"],
  ] as const) {
    it(`keeps the same list as the host through any sequence of changes on ${platform}`, async () => {
      const key = fc.constantFrom("a", "b", "c", "ä", "日本", "e".repeat(511), "");
      const value = fc.oneof(
        fc.constantFrom("", "x", "y".repeat(2047)),
        fc.string({ maxLength: 600, unit: "grapheme" }),
      );
      const step = fc.record({ key, value: fc.option(value.filter((text) => !text.includes("\0"))) });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
          await using tree = new PoolTree();
          if (platform === "freebsd") rmSync(tree.directory, { recursive: true });
          await using daemon = await RunningDaemon.start(tree.sysroot, { platform, layout });
          const model: [string, string][] = [];
          for (const { key, value } of steps) {
            if (value !== null && Buffer.byteLength(value) > 2047) continue;
            const at = model.findIndex(([name]) => name === key);
            if (value === null) {
              expect(await daemon.delete(0, key)).to.equal(at < 0 ? KvpStatus.noMoreItems : 0);
              if (at >= 0) model.splice(at, 1);
            } else {
              expect(await daemon.set(0, key, value)).to.equal(0);
              if (at < 0) model.push([key, value]);
              else model[at] = [key, value];
            }
          }
          expect(await daemon.enumerate(0)).to.deep.equal(model);
          expect(existsSync(join(tree.sysroot, place, ".kvp_pool_0"))).to.equal(true);
        }),
        { numRuns: 40 },
      );
    });
  }
});
