import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { expect } from "chai";
import { encodeRecord, RECORD_SIZE } from "../../../providers/hyperv/protocol/record.js";
import { pending } from "../../support/pending.js";
import { PoolTree, pairsOf } from "../../support/pools.js";
import { rejects } from "../../support/rejects.js";

const BLOCKS = 8192;

/** A sysroot whose pool directory is a file system of two blocks. */
class FullTree extends PoolTree {
  readonly mounted: boolean;

  constructor() {
    super();
    mkdirSync(this.directory, { recursive: true });
    this.mounted =
      spawnSync("mount", ["-t", "tmpfs", "-o", `size=${BLOCKS},mode=755`, "tmpfs", this.directory]).status ===
      0;
    if (this.mounted) for (const number of [0, 1, 2, 3, 4]) this.put(number, Buffer.alloc(0));
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    if (this.mounted) spawnSync("umount", ["-l", this.directory]);
    await super[Symbol.asyncDispose]();
  }
}

describe("Hyper-V pools on a full disk", () => {
  it("refuse what does not fit with ERR_NO_SPACE, lose nothing and go on when there is space again", async function () {
    await using tree = new FullTree();
    if (!tree.mounted) return pending(this, "mounting a tmpfs needs root");
    const hv = await tree.open();
    const written: [string, string][] = [];
    let refused = 0;
    for (let i = 0; i < 6; i++) {
      const before = tree.get(1);
      try {
        await hv.write(`Guest/k${i}`, `v${i}`.repeat(300));
        written.push([`k${i}`, `v${i}`.repeat(300)]);
      } catch {
        refused++;
        expect(tree.get(1).equals(before)).to.equal(true);
        const error = await rejects(hv.write(`Guest/k${i}`, "v"), "ERR_NO_SPACE");
        expect(error.key).to.equal(`Guest/k${i}`);
      }
    }
    expect(refused).to.be.greaterThan(0);
    expect(written.length).to.be.greaterThan(1);
    expect(pairsOf(tree.get(1))).to.deep.equal(written);
    expect(tree.get(1).length % RECORD_SIZE).to.equal(0);

    expect(await hv.delete("Guest/k0")).to.equal(true);
    await hv.write("Guest/k1", "fits");
    expect(new Map(pairsOf(tree.get(1))).get("k1")).to.equal("fits");
  });

  it("and on a read-only one: writes are ERR_READ_ONLY, reads go on", async function () {
    await using tree = new FullTree();
    if (!tree.mounted) return pending(this, "mounting a tmpfs needs root");
    tree.put(1, encodeRecord({ key: Buffer.from("k"), value: Buffer.from("v") }));
    expect(spawnSync("mount", ["-o", "remount,ro", tree.directory]).status).to.equal(0);
    const hv = await tree.open();
    await rejects(hv.write("Guest/k", "w"), "ERR_READ_ONLY");
    await rejects(hv.delete("Guest/k"), "ERR_READ_ONLY");
    expect(await hv.read("Guest/k")).to.equal("v");
  });
});
