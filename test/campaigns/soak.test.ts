import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";
import { budget, count, isLong, patience, report } from "../support/campaign.js";
import type { Figures, SoakReport } from "./soak-process.js";
import { SUBJECTS } from "./soak-subjects.js";

const run = promisify(execFile);
const PROCESS = fileURLToPath(new URL("./soak-process.js", import.meta.url));

/** Rounds by hand; each does every verb once. Otherwise seconds decide. */
const ROUNDS = count(Infinity, Infinity);
const SECONDS = ROUNDS === Infinity ? budget(0.2, 12) : Infinity;

/** Growth that is none: tables that double, code that is compiled late. */
const HEAP_BYTES = 1.5 * 2 ** 20;
/** The allocator's own ups and downs. */
const RSS_BYTES = 48 * 2 ** 20;

const MIB = 2 ** 20;
const told = ({ heapBytes, rssBytes, descriptors }: Figures): string =>
  `heap ${(heapBytes / MIB).toFixed(2)} MiB, resident ${(rssBytes / MIB).toFixed(0)} MiB, descriptors ${descriptors}`;

const NAMES = Object.keys(SUBJECTS);

/** Soaks these one after the other in a process of their own. */
async function soakedTogether(names: readonly string[]): Promise<ReadonlyMap<string, SoakReport>> {
  const args = ["--expose-gc", PROCESS, names.join(","), String(SECONDS), String(ROUNDS)];
  const { stdout } = await run(process.execPath, args);
  const lines = stdout.trimEnd().split("\n");
  return new Map(names.map((name, at) => [name, JSON.parse(lines[at] ?? "") as SoakReport]));
}

let together: ReturnType<typeof soakedTogether> | undefined;

/** In short a start of the process takes longer than its work, so that there is one for all. */
async function soaked(name: string): Promise<SoakReport> {
  if (!isLong) together ??= soakedTogether(NAMES);
  return (await (together ?? soakedTogether([name]))).get(name) as SoakReport;
}

describe("soak: memory and descriptors stay as they are", () => {
  for (const name of NAMES) {
    it(`of the ${name}`, async function () {
      this.timeout(patience(isLong ? SECONDS : SECONDS * NAMES.length));
      const { rounds, verbs, before, after, left } = await soaked(name);
      report(name, { [`times: ${verbs.join(", ")}`]: rounds, before: told(before), after: told(after) });
      expect(after.heapBytes - before.heapBytes, "growth of the heap").to.be.lessThan(HEAP_BYTES);
      expect(after.rssBytes - before.rssBytes, "growth of resident memory").to.be.lessThan(RSS_BYTES);
      expect(after.descriptors, "descriptors").to.be.at.most(before.descriptors);
      expect(left, "descriptors that stay open").to.be.at.most(0);
    });
  }
});
