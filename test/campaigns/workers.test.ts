import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";
import { budget, count, patience, report, seed } from "../support/campaign.js";
import { pending } from "../support/pending.js";
import { ENDS, type Held, JOBS, type WorkersReport } from "./workers.js";

const run = promisify(execFile);
const PROCESS = fileURLToPath(new URL("./workers-process.js", import.meta.url));

/** Workers, by hand; the other forms have seconds. */
const COUNT = count(0, 0);
const SECONDS = COUNT === 0 ? budget(4, 120) : 0;
/** So many by hand take that long. */
const PATIENCE = patience(SECONDS || 240);

/** Threads come and go with a stack and an arena each; they are no growth. */
const MAPPINGS = 40;
/**
 * What Node keeps of a worker (8 KiB in the mean) and koffi (37 KiB; docs/architecture.md), and as much again, beside an
 * allocator's ups and downs.
 */
const RSS_KIB_EACH = 90;
const RSS_KIB = 32 * 1024;

const told = ({ descriptors, mappings, rssKiB }: Held): string =>
  `${descriptors} descriptors, ${mappings} mappings, ${(rssKiB / 1024).toFixed(1)} MiB resident`;

describe("worker threads that end in every way", () => {
  it("take nothing with them and leave nothing behind: polling, locking, reading", async function () {
    if (process.platform !== "linux") return pending(this, "/proc and terminals, which are Linux's");
    this.timeout(PATIENCE);
    const args = ["--expose-gc", PROCESS, String(COUNT), String(SECONDS), String(seed())];
    const { stdout } = await run(process.execPath, args, { maxBuffer: 2 ** 26 });
    const { workers, done, errors, stolen, children, before, after, between }: WorkersReport =
      JSON.parse(stdout);
    const all = Object.values(workers).reduce((sum, each) => sum + each, 0);
    report("worker threads", {
      ended: all,
      done,
      "of them measured": between,
      before: told(before),
      after: told(after),
    });
    expect(errors).to.deep.equal([]);
    expect(stolen, "descriptors of the main thread that were closed").to.equal(0);
    expect(children, "child processes left").to.equal(0);
    expect(after.descriptors, "descriptors").to.be.at.most(before.descriptors);
    expect(after.mappings - before.mappings, "growth of the mappings").to.be.lessThan(MAPPINGS);
    expect(after.rssKiB - before.rssKiB, "growth of resident memory").to.be.lessThan(
      RSS_KIB + between * RSS_KIB_EACH,
    );
    if (all >= 1000) expect(Object.keys(workers)).to.have.length(JOBS.length * ENDS.length);
    expect(done).to.be.greaterThan(0);
  });
});
