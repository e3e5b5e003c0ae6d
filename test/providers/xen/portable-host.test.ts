import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { xenPortableHost } from "../../../providers/xen/portable-host.js";
import { joinFromHost, openPvbus, splitForHost } from "../../../src/index.js";
import { pending } from "../../support/pending.js";
import { type Daemon, startXenstored, whyNoXenstored } from "../../support/xen/daemons.js";
import { environmentOf, tool } from "../../support/xen/tools.js";

const NS = "com.example.agent";
const LONG = 'it\'s "$HOME" \\x41 \\101 %s\n\n€ \u{1f600}\t= \u0001\n'.repeat(300);

describe("Xen's own tools on the C xenstored", function () {
  this.timeout(60_000);
  let daemon: Daemon;

  before(async function () {
    const why = whyNoXenstored();
    if (why !== undefined) pending(this, why);
    daemon = await startXenstored();
  });
  after(() => daemon?.stop());

  it("give a guest what the script says, and show what it published", async () => {
    await using bus = await openPvbus({
      detect: false,
      interfaces: [{ type: "Xen", channel: `unix:${daemon.path}` }],
    });
    const view = bus.portable(NS);
    // Here the guest is domain 0; its own directory is made by the toolstack.
    await tool(daemon, "write", "/local/domain/0/name", "Domain-0");
    const keys: number[] = [];
    for (const value of [LONG, "short", `${LONG}more`, LONG]) {
      const script = join(daemon.path, "../give.sh");
      writeFileSync(script, await splitForHost(xenPortableHost, NS, "config", Buffer.from(value)));
      const env = environmentOf(daemon);
      const PATH = `${join(daemon.packages, "usr/bin")}:${process.env["PATH"]}`;
      const { status, stderr } = spawnSync("sh", [script, "0"], { env: { ...env, PATH }, encoding: "utf8" });
      expect(status, stderr).to.equal(0);
      expect(await view.get("config")).to.equal(value);
      const below = await tool(daemon, "list", "/local/domain/0/vm-data/com@2eexample@2eagent");
      keys.push(below.toString().trim().split("\n").length);

      await view.publish("report", value);
      const printed = await tool(daemon, "ls", "-f", "/local/domain/0/data");
      const joined = await joinFromHost(xenPortableHost, NS, "report", printed);
      expect(Buffer.from(joined ?? []).toString()).to.equal(value);
      const withPermissions = await tool(daemon, "ls", "-fp", "/local/domain/0/data");
      expect(await joinFromHost(xenPortableHost, NS, "report", withPermissions)).to.deep.equal(joined);
    }
    expect(keys).to.deep.equal([8, 1, 8, 8]);
  });
});
