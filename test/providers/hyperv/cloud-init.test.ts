import { expect } from "chai";
import { collect, fixture, PoolTree, pairsOf } from "../../support/pools.js";
import { findPython, start } from "../../support/processes.js";

const python = findPython("import cloudinit.reporting.handlers");

/** Runs a script with cloud-init's own Hyper-V reporter on a pool file. */
async function withReporter(pool: string, body: string): Promise<string> {
  const script = `import sys
sys.argv = sys.argv[:2]
from cloudinit.reporting import events, handlers
handlers.HyperVKvpReportingHandler._already_truncated_pool_file = True
h = handlers.HyperVKvpReportingHandler(kvp_file_path=sys.argv[1])
${body}`;
  const { code, stdout, stderr } = await start(python as string, ["-c", script, pool]).done;
  expect(code, stderr).to.equal(0);
  return stdout;
}

/** cloud-init's Hyper-V KVP reporting handler, which we did not write, on the same pool. */
describe(`Hyper-V pools beside cloud-init${python ? "" : " [pending: Debian's cloud-init is not installed]"}`, () => {
  before(function () {
    if (python === undefined) this.skip();
  });

  it("reads what we wrote, updated, moved and deleted", async () => {
    await using tree = new PoolTree();
    const hv = await tree.open();
    await hv.write("Guest/gone", "x".repeat(900));
    await hv.write("Guest/naïve", "Grüße 🙂");
    await hv.write("Guest/long", "y".repeat(1022));
    await hv.write("Guest/long", "short");
    await hv.delete("Guest/gone");
    const seen = await withReporter(
      tree.path(1),
      "import json\nprint(json.dumps([list(i.values()) for i in h._iterate_kvps(0)]))",
    );
    expect(JSON.parse(seen)).to.deep.equal([
      ["naïve", "Grüße 🙂"],
      ["long", "short"],
    ]);
  });

  it("is read by us, its slices included, and both keep their records side by side", async () => {
    await using tree = new PoolTree();
    const hv = await tree.open();
    const reporting = withReporter(
      tree.path(1),
      `for i in range(200):
    h.publish_event(events.ReportingEvent("start", "event-%d" % i, "description %d " % i * (200 if i % 50 == 0 else 1)))
    h.flush()`,
    );
    let round = 0;
    let reported = false;
    const end = reporting.finally(() => {
      reported = true;
    });
    while (!reported) {
      await hv.write(`Guest/ours-${round % 20}`, `${round}`);
      if (round % 3 === 0) await hv.delete(`Guest/ours-${(round + 10) % 20}`);
      round++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await end;
    const entries = await collect(hv.list("Guest"));
    const theirs = entries.filter(({ key }) => key.startsWith("Guest/CLOUD_INIT|"));
    const names = new Set(theirs.map(({ value }) => (JSON.parse(value as string) as { name: string }).name));
    expect(names.size).to.equal(200);
    expect(theirs.length).to.be.greaterThan(200);
    expect(pairsOf(tree.get(1)).length).to.equal(entries.length);
  });

  it("wrote the genuine fixture, which lists as its README says", async () => {
    await using tree = new PoolTree();
    tree.put(1, fixture("pool1_cloudinit_22.4.2.bin"));
    const entries = await collect((await tree.open()).list("Guest"));
    expect(entries.length).to.equal(5);
    expect(entries.slice(2).map(({ value }) => value?.length)).to.deep.equal([1016, 1016, 738]);
  });
});
