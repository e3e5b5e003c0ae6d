import { expect } from "chai";
import { encodeRecord } from "../../../providers/hyperv/protocol/record.js";
import { budget, patience, random, repeat, report } from "../../support/campaign.js";
import { workerValue } from "../../support/pool-worker-values.js";
import { collect, PoolTree } from "../../support/pools.js";
import { startWorker } from "../../support/processes.js";

const SECONDS = budget(4, 90);
const FEWEST = 20;
const KEYS = 30;

describe("Hyper-V pools when the writer is killed", function () {
  this.timeout(patience(SECONDS));

  it("keep every acknowledged record, whole, through kills at any moment", async () => {
    const chance = random();
    await using tree = new PoolTree();
    const guard = encodeRecord({ key: Buffer.from("guard"), value: Buffer.from("g".repeat(1022)) });
    tree.put(1, guard);
    const state = new Map<string, string>();
    let inFlight = 0;
    const step = async (kill: number): Promise<void> => {
      const { child, done } = startWorker("pool-worker", [tree.sysroot, "k", String(KEYS), "1000000"]);
      await new Promise((resolve) => child.stdout?.once("data", resolve));
      await new Promise((resolve) => setTimeout(resolve, chance() * 40));
      child.kill("SIGKILL");
      const { stdout, signal, stderr } = await done;
      expect([signal, stderr]).to.deep.equal(["SIGKILL", ""]);

      let pending: [string, string] | undefined;
      for (const [, kind, key = "", round = ""] of stdout.matchAll(/^([?=]) (\S+) (\S+)$/gm)) {
        pending = kind === "?" ? [key, round] : undefined;
        if (kind === "=") state.set(key, round);
      }
      const hv = await tree.open();
      const found = new Map((await collect(hv.list("Guest"))).map(({ key, value }) => [key.slice(6), value]));
      expect(found.get("guard")).to.equal("g".repeat(1022));
      found.delete("guard");
      const valueAt = (key: string, round: string | undefined): string | undefined =>
        round === undefined || round === "-" ? undefined : workerValue(key, Number(round));
      for (const [key, round] of state) {
        if (key !== pending?.[0])
          expect(found.get(key), `kill ${kill}, ${key}`).to.equal(valueAt(key, round));
      }
      if (pending !== undefined) {
        inFlight++;
        const [key, round] = pending;
        const outcomes = [valueAt(key, state.get(key)), valueAt(key, round)];
        expect(found.get(key), `kill ${kill}, unfinished ${key}`).to.be.oneOf(outcomes);
        const now = found.get(key);
        if (now === outcomes[1]) state.set(key, round);
      }
      for (const key of found.keys()) expect(state.has(key), `kill ${kill}, unknown ${key}`).to.equal(true);
      await hv.close();
    };
    const kills = await repeat(SECONDS, step, FEWEST);
    report("kills of a writer", { kills, "within an operation": inFlight });
    expect(inFlight, "kills that hit an operation").to.be.greaterThan(kills / 4);
  });
});
