import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { pending } from "../../support/pending.js";
import { Wine } from "../../support/wine.js";

interface Report {
  readonly stats: { readonly passes: number; readonly failures: number; readonly pending: number };
  readonly failures: readonly { readonly fullTitle: string; readonly err: { readonly stack?: string } }[];
}

describe("Windows' registry as Hyper-V's store, and its SMBIOS, in wine", () => {
  it("passes the conformance suite and its own tests", async function () {
    const why = Wine.whyNot();
    if (why !== undefined) return pending(this, why);
    this.timeout(300_000);
    await using wine = await Wine.start();
    const { code, output } = await wine.node(
      "node_modules/mocha/bin/mocha.js",
      ...[
        "--no-config",
        "--timeout",
        "60000",
        "--reporter",
        "json",
        "--reporter-option",
        "output=report.json",
      ],
      "dist/test/windows/registry.js",
      "dist/test/windows/smbios.js",
    );
    let report: Report;
    try {
      report = JSON.parse(readFileSync(join(wine.app, "report.json"), "utf8")) as Report;
    } catch (error) {
      expect.fail(`no report, exit code ${code}: ${String(error)}\n${output}`);
    }
    const failed = report.failures.map(({ fullTitle, err }) => `${fullTitle}\n${err.stack}`);
    expect(failed.join("\n\n")).to.equal("");
    expect(report.stats.passes).to.be.greaterThan(100);
    expect(code).to.equal(0);
  });
});
