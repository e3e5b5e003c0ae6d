import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { type Outcome, start } from "../support/processes.js";

const BLOCK = "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);";
const FINE = `it("works", () => {});`;

/** Returns a process's command line; nothing when the process ends meanwhile. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

describe("scripts/test.mjs", function () {
  this.timeout(120_000);
  let place: string;
  beforeEach(() => {
    place = mkdtempSync(join(tmpdir(), "pvbus-runner-"));
  });
  afterEach(() => rmSync(place, { recursive: true }));

  /** Runs test files of that text; resolves with what the runner said. */
  const run = (files: Readonly<Record<string, string>>, ...options: string[]): Promise<Outcome> => {
    const paths = Object.entries(files).map(([name, text]) => {
      const path = join(place, `${name}.test.js`);
      writeFileSync(path, text);
      return path;
    });
    return start(process.execPath, [join(ROOT, "scripts/test.mjs"), ...options, ...paths]).done;
  };
  const last = ({ stdout }: Outcome): string | undefined => stdout.trimEnd().split("\n").at(-1);

  it("adds up what its files say, and closes with the sums", async () => {
    const outcome = await run({
      fine: FINE,
      mixed: `it("passes", () => {}); it("breaks", () => { throw new Error("because") });
        it("waits [pending: no such device]", function () { this.skip(); });`,
    });
    expect([outcome.code, last(outcome)]).to.deep.equal([1, "2 passed, 1 failed, 1 skipped"]);
    expect(outcome.stdout).to.match(/mixed\.test\.js: breaks\n +because\n/);
    expect(outcome.stdout).to.match(/What is missing:\n +no such device\n +- .*mixed\.test\.js: waits/);
    const fine = await run({ fine: FINE });
    expect([fine.code, last(fine)]).to.deep.equal([0, "1 passed, 0 failed, 0 skipped"]);
  });

  it("fails by its name each file that does not do what it should, and runs the others", async () => {
    const bad: Readonly<Record<string, readonly [text: string, why: string]>> = {
      blocks: [`it("b", () => { ${BLOCK} });`, 'did not end within 20 s: killed in "b"'],
      loads: [BLOCK, "did not end within 20 s: killed while loading"],
      leaves: [
        `it("l", () => { setInterval(() => {}, 1000); });`,
        "did not end within 20 s: its tests were over",
      ],
      dies: [`it("d", () => process.kill(process.pid, "SIGSEGV"));`, 'ended by SIGSEGV in "d"'],
      ends: [`it("e", () => process.exit(0));`, 'ended with 0 in "e"'],
      imports: ["import './nothing.js';", "ended with 1 while loading"],
      empty: ["describe('nothing', () => {});", "holds no test"],
      hides: [
        `it("h", function () { this.skip(); });`,
        '1 pending without a word of what is missing, the first is "h"',
      ],
    };
    const texts = Object.entries(bad).map(([name, [text]]) => [name, text]);
    const outcome = await run({ ...Object.fromEntries(texts), fine: FINE }, "--limit", "20", "--jobs", "9");
    const list = outcome.stdout.slice(outcome.stdout.indexOf("\nFAILED, 8:"));
    for (const [name, [, why]] of Object.entries(bad))
      expect(list).to.match(new RegExp(`/${name}\\.test\\.js(: .)?\n +${why}\n`));
    expect([outcome.code, last(outcome)]).to.deep.equal([1, "2 passed, 8 failed, 0 skipped"]);
  });

  it("kills what a file left behind, in a session of its own too", async function () {
    if (process.platform !== "linux") return pending(this, "/proc, which is Linux's");
    const outcome = await run({
      leaves: `import { spawn } from "node:child_process";
        it("leaves", () => {
          const child = spawn("sleep", ["1000"], { detached: true, stdio: "ignore" });
          child.unref();
          console.log("left " + child.pid);
          throw new Error("so that its output is shown");
        });`,
      fine: FINE,
    });
    expect(outcome.stdout).to.contain("left behind and killed: sleep 1000");
    const pid = Number(/left (\d+)/.exec(outcome.stdout)?.[1]);
    // The kernel takes a moment. Until somebody asks how it ended, a dead process keeps its number, but no command.
    while (existsSync(`/proc/${pid}`) && commandOf(pid) !== "") await new Promise(setImmediate);
  });

  it("does not wait for one that hides and holds a file's output open", async function () {
    if (process.platform !== "linux") return pending(this, "/proc, which is Linux's");
    const outcome = await run({
      leaves: `import { spawn } from "node:child_process";
        import { writeFileSync } from "node:fs";
        it("leaves", () => {
          const child = spawn("sleep", ["1000"], { detached: true, stdio: "inherit", env: {} });
          child.unref();
          writeFileSync(${JSON.stringify(join(place, "pid"))}, String(child.pid));
        });`,
      fine: FINE,
    });
    expect([outcome.code, last(outcome)]).to.deep.equal([0, "2 passed, 0 failed, 0 skipped"]);
    // It throws when that one is gone: then the runner waited for it.
    process.kill(Number(readFileSync(join(place, "pid"), "utf8")), "SIGKILL");
  });

  it("says so when there is no such file", async () => {
    const { code, stderr } = await start(process.execPath, [join(ROOT, "scripts/test.mjs"), "nowhere"]).done;
    expect([code, stderr]).to.deep.equal([2, "there is no nowhere\n"]);
  });
});
