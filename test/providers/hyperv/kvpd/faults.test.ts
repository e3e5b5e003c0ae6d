import { spawnSync } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { expect } from "chai";
import { KvpStatus } from "../../../../providers/hyperv/kvpd/status.js";
import { Call } from "../../../../src/bus/call.js";
import { lockFile } from "../../../../src/native/file-lock.js";
import { flockOnly } from "../../../support/flock-only.js";
import { RunningDaemon } from "../../../support/kvp-daemon.js";
import { pending } from "../../../support/pending.js";
import { PoolTree, pairsOf } from "../../../support/pools.js";

describe("KVP daemon: what stops the vendor's", () => {
  it("a reader that never lets go of its lock: the host is answered, and nothing is lost", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    const fd = openSync(tree.path(0), "r");
    const lock = await lockFile(fd, { mode: "shared", call: new Call() });
    try {
      expect(await daemon.set(0, "k", "v")).to.equal(0);
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
    } finally {
      lock.release();
      closeSync(fd);
    }
  });

  it("a program that holds flock(2) alone for ever, which the vendor's does not see", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    const fd = openSync(tree.path(0), "r");
    const release = flockOnly(fd);
    try {
      expect(await daemon.set(0, "k", "v")).to.equal(0);
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
    } finally {
      release();
      closeSync(fd);
    }
  });

  it("a writer that never ends: the change is refused as locked, reading goes on", async () => {
    await using tree = new PoolTree();
    await using daemon = await RunningDaemon.start(tree.sysroot);
    await daemon.set(0, "k", "v");
    const fd = openSync(tree.path(0), "r+");
    const lock = await lockFile(fd, { mode: "exclusive", call: new Call() });
    try {
      expect(await daemon.set(0, "k", "w")).to.equal(KvpStatus.machineLocked);
      expect(await daemon.enumerate(0)).to.deep.equal([["k", "v"]]);
    } finally {
      lock.release();
      closeSync(fd);
    }
    expect(await daemon.set(0, "k", "w")).to.equal(0);
  });

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
