import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Environment } from "../environment.js";
import type { LabTest } from "../machine.js";
import { ROOT, run } from "../tools.js";

/** The parts of mocha's JSON report that are of use here. */
interface Report {
  readonly passes: readonly { fullTitle: string }[];
  readonly pending: readonly { fullTitle: string }[];
  readonly failures: readonly { fullTitle: string; err: { stack?: string; message?: string } }[];
}

/** Node for Windows in wine: the registry's store. `npm test` runs the same tests where wine is. */
export const wine: Environment = {
  name: "wine",
  title: "Windows' registry in wine",
  real: "wine's advapi32, Node for Windows, koffi for Windows",
  inCi: false,
  run: async () => {
    const began = performance.now();
    run(process.execPath, ["scripts/fetch-windows.mjs"], { cwd: ROOT });
    const scratch = mkdtempSync(join(tmpdir(), "pvbus-wine-report-"));
    const report = join(scratch, "report.json");
    const suites = ["dist/test/providers/hyperv/registry.test.js"];
    const mocha = [join(ROOT, "node_modules/mocha/bin/mocha.js"), "--no-config", "--timeout", "180000"];
    const reporter = ["--reporter", "json", "--reporter-option", `output=${report}`];
    const { status, stdout, stderr } = spawnSync(process.execPath, [...mocha, ...reporter, ...suites], {
      cwd: ROOT,
      encoding: "utf8",
    });
    try {
      const got = existsSync(report) ? (JSON.parse(readFileSync(report, "utf8")) as Report) : undefined;
      const tests: LabTest[] = [
        ...(got?.passes ?? []).map(({ fullTitle }): LabTest => ({ event: "pass", title: fullTitle })),
        ...(got?.pending ?? []).map(({ fullTitle }): LabTest => ({ event: "pending", title: fullTitle })),
        ...(got?.failures ?? []).map(
          ({ fullTitle, err }): LabTest => ({
            event: "fail",
            title: fullTitle,
            why: err.stack ?? err.message ?? "",
          }),
        ),
      ];
      const failure =
        status === 0 && tests.length > 0 ? undefined : `mocha ended with ${status}: ${stderr || stdout}`;
      const kernel = `Windows 10 as wine has it (${run("wine", ["--version"]).trim()})`;
      return { tests, failure, facts: { kernel }, seconds: (performance.now() - began) / 1000, log: "" };
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  },
};
