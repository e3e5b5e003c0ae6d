import { join } from "node:path";
import { expect } from "chai";
import { HypervHostSimulator, KvpDeviceSimulator } from "../providers/testing.js";
import { pending } from "./support/pending.js";
import { fixture, PoolTree, pairsOf, ROOT } from "./support/pools.js";
import { start } from "./support/processes.js";

const example = (name: string, tree: PoolTree, ...args: string[]) =>
  start(process.execPath, [join(ROOT, "dist/examples", name), ...args], {
    ...process.env,
    PVBUS_SYSROOT: tree.sysroot,
  });

describe("examples", () => {
  it("first-steps reads, tells and lists", async () => {
    await using tree = new PoolTree();
    tree.put(0, fixture("pool0_basic.bin"));
    tree.put(3, fixture("pool3_parameters.bin"));
    const { stdout, stderr } = await example("first-steps.js", tree).done;
    expect(stderr).to.equal("");
    expect(stdout).to.match(/^this is web-01 on Hyper-V\nExternal\/alpha = one\n/);
    expect(pairsOf(tree.get(1))).to.deep.equal([["agent-version", "1.2.3"]]);
  });

  it("follow-a-setting hears of a change", async () => {
    await using tree = new PoolTree();
    const host = await HypervHostSimulator.create({ sysroot: tree.sysroot });
    await host.setParameters({ VirtualMachineName: "vm" });
    const { child, done } = example("follow-a-setting.js", tree, "20");
    await new Promise((resolve) => child.stdout?.once("data", resolve));
    await host.addKvpItems([{ name: "role", data: "db" }]);
    const { stdout, stderr, code } = await done;
    expect([stderr, code]).to.deep.equal(["", 0]);
    expect(stdout).to.equal("waiting for External/role\nrole is db\n");
  });

  it("host-and-guest talks both ways", async () => {
    const { stdout, stderr, code } = await start(process.execPath, [
      join(ROOT, "dist/examples/host-and-guest.js"),
    ]).done;
    expect([stderr, code]).to.deep.equal(["", 0]);
    expect(stdout).to.equal("guest: meta/role is db\nhost: web-1 is ready\n");
  });

  it("test-an-agent shows what the host of an agent sees", async function () {
    const why = KvpDeviceSimulator.whyNot();
    if (why !== undefined) return pending(this, why);
    const kvpd = [process.execPath, join(ROOT, "dist/bin/pvbus.cjs"), "kvpd", "-n"];
    const { stdout, stderr, code } = await start(process.execPath, [
      join(ROOT, "dist/examples/test-an-agent.js"),
      ...kvpd,
    ]).done;
    expect([stdout, stderr, code]).to.deep.equal(["set: 0x0\nrole=db\n", "", 0]);
  });
});
