import { spawnSync } from "node:child_process";
import { statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { ROOT } from "../support/pools.js";

/** What runs before `npm start`. To bundle again would take the command lines from the tests beside. */
describe("scripts/prestart.mjs", () => {
  it("leaves alone what is newer than the sources", () => {
    const made = join(ROOT, "dist/bin/pvbus.cjs");
    const now = new Date();
    utimesSync(made, now, now);
    const { ino } = statSync(made);
    const { stdout, stderr, status } = spawnSync(process.execPath, [join(ROOT, "scripts/prestart.mjs")], {
      encoding: "utf8",
    });
    expect({ stdout, stderr, status }).to.deep.equal({ stdout: "", stderr: "", status: 0 });
    expect(statSync(made).ino).to.equal(ino);
  });
});
