import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";
import { pending } from "../../../support/pending.js";

const DISK_BYTES = 256 * 1024;

/** Returns a guest's directory a small file system of its own; false without the right to. */
function mountSmall(path: string): boolean {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const args = ["-t", "tmpfs", "-o", `size=${DISK_BYTES},mode=700`, "tmpfs", path];
  return spawnSync("mount", args).status === 0;
}

/** Takes all that is left. */
function fillDisk(path: string): void {
  const file = openSync(path, "w");
  try {
    for (;;) writeSync(file, Buffer.alloc(4096, 1));
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).to.equal("ENOSPC");
  } finally {
    closeSync(file);
  }
}

describe("KVM host on a full disk", () => {
  it("refuses what does not fit, loses nothing, serves the other guests and goes on when there is space", async function () {
    await using folder = new HostFolder();
    const place = join(folder.state, "guests/full");
    if (!mountSmall(place)) return pending(this, "mounting a tmpfs needs root");
    try {
      const host = await folder.serve(["full", "good"]);
      const kept = new Map<string, string>();
      let refused = 0;
      await using full = await TestGuest.connect(folder.socket("full"));
      await using good = await TestGuest.connect(folder.socket("good"));
      for (let i = 0; i < 60; i++) {
        const key = `key-${i % 25}`;
        const value = `${i}:`.padEnd(15_000, "x");
        const answer = await full.put(key, value);
        if (answer === "OK") kept.set(key, value);
        else {
          refused++;
          expect(answer).to.equal("ERR_NO_SPACE: the host cannot keep it; see the host's log");
        }
        for (const [known, held] of kept) expect((await full.get(known)) === held, known).to.equal(true);
      }
      expect(refused).to.be.greaterThan(10);
      expect(await good.put("a", "1")).to.equal("OK");
      expect(folder.events.map(({ event }) => event)).to.include("request failed");
      await host.close();

      await folder.serve(["full", "good"]);
      await using again = await TestGuest.connect(folder.socket("full"));
      for (const [known, held] of kept) expect((await again.get(known)) === held, known).to.equal(true);
      spawnSync("mount", ["-o", `remount,size=${4 * DISK_BYTES}`, place]);
      for (let i = 0; i < 25; i++) expect(await again.put(`key-${i}`, "short")).to.equal("OK");
      expect(await again.get("key-3")).to.equal("short");
    } finally {
      spawnSync("umount", ["-l", place]);
    }
  });

  it("takes deletes when there is not a byte left, and writes again after them", async function () {
    await using folder = new HostFolder();
    const place = join(folder.state, "guests/full");
    if (!mountSmall(place)) return pending(this, "mounting a tmpfs needs root");
    try {
      await folder.serve(["full"]);
      await using full = await TestGuest.connect(folder.socket("full"));
      // Long names: the records of the deletes do not fit into what is left of the last page.
      const keys = Array.from({ length: 12 }, (_, i) => `key-${i}-`.padEnd(500, "k"));
      for (const key of keys) expect(await full.put(key, "value")).to.equal("OK");
      fillDisk(join(place, "filler"));
      const refusal = "ERR_NO_SPACE: the host cannot keep it; see the host's log";
      expect(await full.put("big", "x".repeat(20_000))).to.equal(refusal);
      for (const key of keys) {
        const answer = await full.ask({ command: "DELETE", key });
        expect(answer).to.deep.equal({ kind: "success", value: Buffer.from("OK") });
        expect(await full.get(key)).to.equal(undefined);
      }
      for (const key of keys) expect(await full.put(key.slice(0, 20), "again")).to.equal("OK");
    } finally {
      spawnSync("umount", ["-l", place]);
    }
  });
});
