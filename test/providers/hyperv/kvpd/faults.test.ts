import { spawnSync } from "node:child_process";
import { expect } from "chai";
import { requestLimitMs } from "../../../../providers/hyperv/kvpd/daemon.js";
import { KvpStatus } from "../../../../providers/hyperv/protocol/status.js";
import { RunningDaemon } from "../../../support/kvp-daemon.js";
import { LockHolder } from "../../../support/lock-holder.js";
import { pending } from "../../../support/pending.js";
import { PoolTree, pairsOf } from "../../../support/pools.js";

/** Longer than the daemon waits for readers. */
const LONG_MS = 3_000;

describe("KVP daemon: what stops the vendor's", function () {
  this.timeout(60_000);

  before(function () {
    const why = LockHolder.whyNot();
    if (why === undefined) return;
    console.warn(`      NOT RUN beside other programs' locks: ${why}`);
    this.skip();
  });

  it("gives up 2 s before Linux's driver and 1 s before FreeBSD's", () => {
    expect([requestLimitMs(30_000), requestLimitMs(5_000)]).to.deep.equal([28_000, 4_000]);
  });

  for (const family of ["record", "flock"] as const) {
    it(`a reader that never lets go of its lock (${family}): the host is answered, and nothing is lost`, async () => {
      await using tree = new PoolTree();
      await using daemon = await RunningDaemon.start(tree.sysroot);
      await using _ = await LockHolder.start(tree.path(0), family, "shared");
      expect(await daemon.set(0, "k", "v")).to.equal(0);
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
    });

    it(`a writer that takes longer than readers may (${family}): the change waits for it and is stored`, async () => {
      await using tree = new PoolTree();
      await using daemon = await RunningDaemon.start(tree.sysroot);
      const holder = await LockHolder.start(tree.path(0), family, "exclusive");
      let released = false;
      const setting = daemon.set(0, "k", "v").then((status) => [status, released]);
      await new Promise((resolve) => setTimeout(resolve, LONG_MS));
      released = true;
      await holder.release();
      expect(await setting).to.deep.equal([0, true]);
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
    });

    it(`a writer that never ends (${family}): the change is refused as locked, reading goes on`, async () => {
      await using tree = new PoolTree();
      await using daemon = await RunningDaemon.start(tree.sysroot, { timeLimitMs: LONG_MS });
      await daemon.set(0, "k", "v");
      const holder = await LockHolder.start(tree.path(0), family, "exclusive");
      const began = performance.now();
      expect(await daemon.set(0, "k", "w")).to.equal(KvpStatus.machineLocked);
      expect(performance.now() - began, "before the driver").to.be.lessThan(LONG_MS);
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
      await holder.release();
      expect(await daemon.set(0, "k", "w")).to.equal(0);
    });
  }

  it("a full disk: the host is told so, what was stored stays, and it goes on when there is space", async function () {
    await using tree = new PoolTree();
    const mounted =
      spawnSync("mount", ["-t", "tmpfs", "-o", "size=8192,mode=755", "tmpfs", tree.directory]).status === 0;
    if (!mounted) {
      return pending(this, "mounting a tmpfs needs root");
    }
    try {
      await using daemon = await RunningDaemon.start(tree.sysroot);
      let stored = 0;
      let status = 0;
      for (; status === 0; stored++) status = await daemon.set(0, `k${stored}`, `v${stored}`);
      stored--;
      expect(status).to.equal(KvpStatus.diskFull);
      expect(stored).to.be.greaterThan(1);
      const before = Array.from({ length: stored }, (_, at) => [`k${at}`, `v${at}`]);
      expect(await daemon.enumerate(0)).to.deep.equal(before);
      expect(pairsOf(tree.get(0))).to.deep.equal(before);
      expect(await daemon.delete(0, "k0")).to.equal(0);
      expect(await daemon.set(0, "new", "fits")).to.equal(0);
    } finally {
      spawnSync("umount", ["-l", tree.directory]);
    }
  });
});
