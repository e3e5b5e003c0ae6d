import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
    const texts = Object.entries(bad).map(([name, [text]]) => [name, text] as const);
    const outcome = await run({ ...Object.fromEntries(texts), fine: FINE }, "--limit", "20", "--jobs", "9");
    const list = outcome.stdout.slice(outcome.stdout.indexOf("\nFAILED, 8:"));
    for (const [name, [, why]] of Object.entries(bad))
      expect(list).to.match(new RegExp(`/${name}\\.test\\.js(: .)?\n +${why}\n`));
    expect([outcome.code, last(outcome)]).to.deep.equal([1, "2 passed, 8 failed, 0 skipped"]);
  });

  describe("with several files in a process", () => {
    const ONE_BY_ONE = ["--jobs", "1"];
    /** A file that says in which process it ran. */
    const told = (more = ""): string => `import { appendFileSync } from "node:fs";
      it("works", () => {
        appendFileSync(${JSON.stringify(join(place, "pids"))}, process.pid + "\\n");
        ${more}
      });`;
    const pids = (): string[] => readFileSync(join(place, "pids"), "utf8").trimEnd().split("\n");

    it("shares one among quick files, and leaves those alone that touch what is the whole process's", async () => {
      const outcome = await run(
        {
          a: told('process.env["PVBUS_LEFT"] = "1"; process.exitCode = 3;'),
          b: told('if (process.env["PVBUS_LEFT"] !== undefined) throw new Error("not as it was");'),
          c: told("process.memoryUsage();"),
        },
        ...ONE_BY_ONE,
      );
      expect([outcome.code, last(outcome)]).to.deep.equal([0, "3 passed, 0 failed, 0 skipped"]);
      const [first, second, third] = pids();
      // Who comes first is by what they take.
      expect(new Set([first, second, third]).size).to.equal(2);
      expect([first, third]).to.include(second);
      const alone = await run({ a: told(), b: told() }, ...ONE_BY_ONE, "--together", "1");
      expect([alone.code, new Set(pids().slice(3)).size]).to.deep.equal([0, 2]);
    });

    it("fails each by its own name, with what it printed itself, and goes on with those behind it", async () => {
      const bad: Readonly<Record<string, readonly [text: string, why: string]>> = {
        b: [`it("b", () => { ${BLOCK} });`, 'did not end within 20 s: killed in "b"'],
        d: [`it("d", () => process.kill(process["pid"], "SIGSEGV"));`, 'ended by SIGSEGV in "d"'],
        f: [`it("f", () => process.exit(0));`, 'ended with 0 in "f"'],
        g: ["import './nothing.js';", "ended with 1 while loading"],
        h: [`it("h", () => { console.log("said by h"); throw new Error("because"); });`, "because"],
        i: ["describe('nothing', () => {});", "holds no test"],
        j: [`it("j", () => { console.log("said by j"); throw new Error("of that"); });`, "of that"],
      };
      const texts = Object.entries(bad).map(([name, [text]]) => [name, text] as const);
      const files = { a: told(), c: told(), e: told(), ...Object.fromEntries(texts), k: told() };
      const opens = {
        a: told(),
        b: `it("b", () => { setInterval(() => {}, 1000); });`,
        c: told(),
        d: told(),
      };
      const [outcome, opened] = await Promise.all([
        run(Object.fromEntries(Object.entries(files).sort()), "--limit", "20", ...ONE_BY_ONE),
        (async () => {
          const folder = join(place, "opens");
          mkdirSync(folder);
          for (const [name, text] of Object.entries(opens))
            writeFileSync(join(folder, `${name}.test.js`), text);
          const args = [join(ROOT, "scripts/test.mjs"), "--limit", "20", ...ONE_BY_ONE, folder];
          return await start(process.execPath, args).done;
        })(),
      ]);
      const list = outcome.stdout.slice(outcome.stdout.indexOf("\nFAILED, 7:"));
      for (const [name, [, why]] of Object.entries(bad))
        expect(list).to.match(new RegExp(`/${name}\\.test\\.js(: .)?\n +${why}\n`));
      expect([outcome.code, last(outcome)]).to.deep.equal([1, "4 passed, 7 failed, 0 skipped"]);
      expect(outcome.stdout.split("said by h")).to.have.length(2);
      expect(outcome.stdout.split("said by j")).to.have.length(2);
      expect(opened.stdout).to.match(/\/b\.test\.js\n +did not end within 20 s: its tests were over\n/);
      expect([opened.code, last(opened)]).to.deep.equal([1, "4 passed, 1 failed, 0 skipped"]);
      // Of the first: a, then c, then e, then k, and of the second: a, then c with d.
      expect(new Set(pids()).size).to.equal(6);
    });

    it("names the file that left a process behind", async function () {
      if (process.platform !== "linux") return pending(this, "/proc, which is Linux's");
      const leaves = `import { spawn } from "node:child_process";
        it("leaves", () => spawn("sleep", ["1000"], { detached: true, stdio: "ignore" }).unref());`;
      const { stdout, code } = await run({ a: FINE, b: leaves, c: FINE }, ...ONE_BY_ONE);
      expect(code).to.equal(0);
      expect(stdout).to.match(/b\.test\.js: 1 passed.*\n +left behind and killed: sleep 1000/);
      expect(stdout.split("left behind")).to.have.length(2);
    });
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
