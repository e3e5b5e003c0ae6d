import { utimesSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRecord, RECORD_SIZE } from "../../../providers/hyperv/protocol/record.js";
import { isWhole, workerValue } from "../../support/pool-worker-values.js";
import { collect, PoolTree, pairsOf, ROOT } from "../../support/pools.js";
import { findPython, type Outcome, start, startWorker } from "../../support/processes.js";

const WORKERS = 3;
const ROUNDS = 400;
const KEYS = 40;
const FOREIGN = 300;

/** What a worker says it has done last with each of its keys; `-` means deleted. */
function acknowledged({ stdout }: Outcome): Map<string, string> {
  const last = new Map<string, string>();
  for (const [, key = "", round = ""] of stdout.matchAll(/^= (\S+) (\S+)$/gm)) last.set(key, round);
  return last;
}

describe("Hyper-V pools under many writers", function () {
  this.timeout(120_000);
  const python = findPython("import fcntl");

  it(`lose no update and tear no record between our processes and a foreign locker${python ? "" : " [pending: no python3]"}`, async function () {
    if (python === undefined) return this.skip();
    await using tree = new PoolTree();
    const workers = Array.from({ length: WORKERS }, (_, i) =>
      startWorker("pool-worker", [tree.sysroot, `w${i}-`, String(KEYS), String(ROUNDS)]),
    );
    const foreign = start(python, [
      join(ROOT, "test/support/fcntl-locker.py"),
      tree.path(1),
      "py-",
      String(FOREIGN),
    ]);
    let running = true;
    const finished = Promise.all([...workers.map(({ done }) => done), foreign.done]).finally(() => {
      running = false;
    });

    const reader = await tree.open();
    let listings = 0;
    while (running) {
      for (const { key, value = "" } of await collect(reader.list("Guest"))) {
        const name = key.slice("Guest/".length);
        if (name.startsWith("py-")) expect(value).to.be.oneOf(["first", "second"]);
        else expect(isWhole(name, value), `${name}: ${value}`).to.equal(true);
      }
      listings++;
    }

    const outcomes = await finished;
    for (const { code, stderr } of outcomes) expect([code, stderr]).to.deep.equal([0, ""]);
    const bytes = tree.get(1);
    expect(bytes.length % RECORD_SIZE).to.equal(0);
    const expected = new Map<string, string>();
    for (const outcome of outcomes.slice(0, WORKERS)) {
      for (const [key, round] of acknowledged(outcome))
        if (round !== "-") expected.set(key, workerValue(key, Number(round)));
    }
    for (let i = 0; i < FOREIGN; i++) expected.set(`py-${i}`, i % 3 === 0 ? "second" : "first");
    const found = pairsOf(bytes);
    expect(found.length, "no duplicates").to.equal(new Map(found).size);
    expect(new Map(found)).to.deep.equal(expected);
    expect(listings).to.be.greaterThan(5);
  });

  it("serialise sessions inside one process", async () => {
    await using tree = new PoolTree();
    const sessions = await Promise.all([tree.open(), tree.open(), tree.open()]);
    await Promise.all(
      sessions.flatMap((hv, s) =>
        Array.from({ length: 50 }, (_, i) => hv.write(`Guest/${s}-${i}`, `${s}.${i}`)),
      ),
    );
    expect(new Map(pairsOf(tree.get(1))).size).to.equal(150);
    expect(tree.get(1).length).to.equal(150 * RECORD_SIZE);
  });

  it(`wait for a foreign lock no longer than they are told to, with the loop free, and write nothing${python ? "" : " [pending: no python3]"}`, async function () {
    if (python === undefined) return this.skip();
    await using tree = new PoolTree();
    tree.put(1, encodeRecord({ key: Buffer.from("k"), value: Buffer.from("v") }));
    // Never at rest, so that reading needs the lock too.
    const soon = new Date(Date.now() + 600_000);
    utimesSync(tree.path(1), soon, soon);
    const script = `import fcntl,sys,time
f=open(sys.argv[1],"r+b"); fcntl.lockf(f,fcntl.LOCK_EX); print("held",flush=True); time.sleep(60)`;
    const holder = start(python, ["-c", script, tree.path(1)]);
    await new Promise((resolve) => holder.child.stdout?.once("data", resolve));
    try {
      const hv = await tree.open();
      let ticks = 0;
      const timer = setInterval(() => ticks++, 5);
      const controller = new AbortController();
      setTimeout(() => controller.abort(new Error("enough")), 300);
      const codes = await Promise.all(
        [
          hv.write("Guest/k", "w", { timeoutMs: 600 }),
          hv.delete("Guest/k", { timeoutMs: 600 }),
          hv.read("Guest/k", { timeoutMs: 600 }),
          hv.write("Guest/k", "w", { signal: controller.signal }),
        ].map((promise) =>
          promise.then(
            () => "done",
            (error: { code?: string }) => error.code,
          ),
        ),
      );
      clearInterval(timer);
      expect(codes).to.deep.equal(["ERR_TIMEOUT", "ERR_TIMEOUT", "ERR_TIMEOUT", "ERR_ABORTED"]);
      expect(ticks).to.be.greaterThan(5);
      expect(pairsOf(tree.get(1))).to.deep.equal([["k", "v"]]);
    } finally {
      holder.child.kill("SIGKILL");
      await holder.done;
    }
    expect(await (await tree.open()).read("Guest/k")).to.equal("v");
  });
});
