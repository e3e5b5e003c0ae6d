// Runs the tests: each file is a mocha process of its own, as many at a time as there are processors, and a file that
// outruns its limit is killed and fails by its name.
//
//   node scripts/test.mjs [--long] [--jobs N] [--limit SECONDS] [--grep TEXT] [FILE|DIRECTORY ...]
//
// Why this and not `mocha --parallel` or another runner: mocha's time limits are timers within the process under test. A
// test that keeps the event loop busy, waits in a system call, or leaves something open that keeps the process alive hangs
// it for ever, and the workers of --parallel are watched by nobody. node:test has the same limits within, and the tests are
// mocha's. So what watches has to be outside, and does little else.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = resolve(fileURLToPath(new URL("..", import.meta.url)));
const TESTS = "dist/test";
const FETCH = "dist/test/support/fetch-peers.js";
const FILE_RUNNER = "scripts/test-file.mjs";

/** Seconds that a file may take: many times what the slowest one needs, so that a busy machine is no failure. */
const LIMIT = { short: 300, long: 1200 };

/** Fetching takes seconds, or never ends. */
const FETCH_MS = 200_000;

/** What a file's process leaves behind has this time to end by itself. */
const LEAVE_MS = 500;

/** Within this time what was killed is gone, or never will be. */
const GONE_MS = 10_000;
const UNREF = { ref: false };

/** What is kept of a file's output, for one that prints without end. */
const OUTPUT_CHARACTERS = 1 << 20;

/** Files that take long begin first, so that none of them is left alone at the end. */
const FIRST = [
  /\/campaigns\//,
  /\/kill\.test\.js$/,
  /\/package\.test\.js$/,
  /\/registry\.test\.js$/,
  /\/vmware\/vendor\.test\.js$/,
];

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    long: { type: "boolean", default: false },
    jobs: { type: "string" },
    limit: { type: "string" },
    grep: { type: "string" },
  },
});
const limit = Number(options.limit ?? (options.long ? LIMIT.long : LIMIT.short));
// Files wait a good part of their time; the campaigns' full forms do not, and time what they do.
const jobs = Number(options.jobs ?? availableParallelism() + (options.long ? 0 : 1));
if (!(limit > 0 && Number.isInteger(jobs) && jobs > 0)) {
  console.error("--limit takes seconds, --jobs a number of processes");
  process.exit(2);
}

process.chdir(ROOT);
const place = mkdtempSync(join(tmpdir(), "pvbus-test-"));
const began = performance.now();
const running = new Map();
process.on("exit", () => rmSync(place, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.once(signal, () => {
    for (const run of running.values()) end(run);
    process.exit(1);
  });

const files = selected();
const isLive = files.length === 1;
if (!isLive)
  spawnSync(process.execPath, [FETCH], { stdio: "inherit", timeout: FETCH_MS, killSignal: "SIGKILL" });
const results = await runAll(files);
summarise(results);

/** Returns the files to run. */
function selected() {
  const named = positionals.length > 0 ? positionals : [TESTS];
  const found = named.flatMap((name) => {
    // A test may be named by its source too.
    const path = relative(ROOT, resolve(name))
      .replace(/^test(?=\/|$)/, TESTS)
      .replace(/(?<!\.d)\.ts$/, ".js");
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined) usage(`there is no ${name}`);
    if (!stat.isDirectory()) return [path];
    return readdirSync(path, { recursive: true })
      .filter((each) => each.endsWith(".test.js"))
      .map((each) => join(path, each));
  });
  const wanted = [...new Set(found)].filter((path) => !options.long || isCampaign(path)).sort();
  if (wanted.length === 0) usage("there are no such tests");
  const early = (path) => (FIRST.some((each) => each.test(path)) ? 0 : 1);
  return wanted.sort((a, b) => early(a) - early(b) || statSync(b).size - statSync(a).size);
}

function usage(message) {
  console.error(message);
  process.exit(2);
}

/** A file has a long form when it asks the campaigns' helper for its time. */
function isCampaign(path) {
  return readFileSync(path, "utf8").includes("/support/campaign.js");
}

/** Runs files, several at a time; resolves with their results in the order in which they ended. */
async function runAll(waiting) {
  const results = [];
  const queue = [...waiting];
  const worker = async () => {
    while (queue.length > 0) {
      const result = await run(queue.shift());
      results.push(result);
      if (!isLive) print(result, results.length, waiting.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, queue.length) }, worker));
  return results;
}

/** Runs one file's mocha; resolves when its process and what it started are gone. */
async function run(path) {
  const events = join(place, `${path.replaceAll("/", "_")}.jsonl`);
  writeFileSync(events, "");
  // A runner that is itself under test leaves its own mark in front.
  const id = `${process.env["PVBUS_TEST_RUN"] ?? ""}:${place}/${path}`;
  const mark = `PVBUS_TEST_RUN=${id}`;
  const { timeout } = JSON.parse(readFileSync(".mocharc.json", "utf8"));
  const child = spawn(
    process.execPath,
    [FILE_RUNNER, path, events, String(timeout), ...(options.grep === undefined ? [] : [options.grep])],
    {
      detached: true,
      stdio: ["ignore", isLive ? "inherit" : "pipe", isLive ? "inherit" : "pipe"],
      env: {
        ...process.env,
        PVBUS_TEST_RUN: id,
        PVBUS_TEST_EVENTS: events,
        ...(options.long ? { PVBUS_LONG: "1" } : {}),
      },
    },
  );
  const one = { child, mark, isLate: false };
  running.set(path, one);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS);
    });
  const started = performance.now();
  const exit = once(child, "exit").catch((error) => [error.message, null]);
  const timer = setTimeout(() => {
    one.isLate = true;
    end(one);
  }, limit * 1000);
  // A process that hangs in the kernel outlives its killing.
  const [code, signal] = await Promise.race([exit, sleep(limit * 1000 + GONE_MS, [null, null], UNREF)]);
  clearTimeout(timer);
  if (marked(mark).length > 0) await sleep(LEAVE_MS);
  const left = one.isLate ? [] : marked(mark);
  end(one);
  running.delete(path);
  const seconds = (performance.now() - started) / 1000;
  // Somebody without the mark may still hold the other ends of the streams.
  const streams = [child.stdout, child.stderr].filter((each) => each !== null);
  const ends = streams.map((each) => each.closed || once(each, "close"));
  await Promise.race([Promise.all(ends), sleep(GONE_MS, undefined, UNREF)]);
  for (const stream of streams) stream.destroy();
  child.unref();
  return judged({ path, code, signal, isLate: one.isLate, events, seconds, left, output });
}

/** Kills a run's process group, and what left it: daemons and what runs in sessions of its own still have the mark. */
function end({ child, mark }) {
  kill(-child.pid);
  // What is being started meanwhile appears in the next look.
  for (let left = marked(mark), round = 0; left.length > 0 && round < 5; left = marked(mark), round++)
    for (const { pid } of left) kill(pid);
}

function kill(pid) {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone.
  }
}

/** Returns the processes whose environment holds a run's mark; where there is no /proc, none. */
function marked(mark) {
  if (!existsSync("/proc/self/environ")) return [];
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      if (
        !readFileSync(`/proc/${name}/environ`, "latin1")
          .split("\0")
          .some((each) => each === mark || each.startsWith(`${mark}:`))
      )
        return [];
      return [
        { pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ") },
      ];
    } catch {
      // It ended, or belongs to somebody else.
      return [];
    }
  });
}

/** Returns a line's event; none where the line is empty, or cut off with its writer. */
function parsed(line) {
  try {
    return [JSON.parse(line)];
  } catch {
    return [];
  }
}

/** Returns what a run's events and its end say together. */
function judged({ path, code, signal, isLate, events, seconds, left, output }) {
  const all = readFileSync(events, "utf8").split("\n").flatMap(parsed);
  const of = (kind) => all.filter(({ event }) => event === kind);
  const failures = of("fail").map(({ title, why }) => ({ title, why }));
  const isOver = of("end").length > 0;
  const last = of("begin").at(-1)?.title;
  const where = isOver ? "after its tests" : last === undefined ? "while loading" : `in "${last}"`;
  const broken = (why) => failures.push({ title: path, why });
  if (isLate)
    broken(
      isOver
        ? `did not end within ${limit} s: its tests were over`
        : `did not end within ${limit} s: killed ${where}`,
    );
  else if (signal !== null) broken(`ended by ${signal} ${where}`);
  else if (!isOver) broken(`ended with ${code} ${where}`);
  else if (code !== 0 && failures.length === 0) broken(`ended with ${code} ${where}`);
  const pending = of("pending");
  const silent = pending.filter(({ why }) => why === undefined);
  if (silent.length > 0)
    broken(`${silent.length} pending without a word of what is missing, the first is "${silent[0].title}"`);
  const passed = of("pass");
  if (isOver && passed.length + pending.length + failures.length === 0 && options.grep === undefined)
    broken("holds no test");
  return {
    path,
    seconds,
    passed: passed.length,
    failures,
    pending: pending.filter(({ why }) => why !== undefined),
    notes: of("note").map(({ text }) => text),
    left,
    output,
  };
}

function print({ path, seconds, passed, failures, pending, notes, left, output }, count, total) {
  const skipped = pending.length > 0 ? `, ${pending.length} skipped` : "";
  const name = path.replace(/^dist\/test\//, "");
  const sign = failures.length > 0 ? "FAILED" : "ok";
  if (failures.length > 0) console.log(`\n${output.trimEnd()}\n`);
  const failed = failures.length > 0 ? `, ${failures.length} failed` : "";
  console.log(
    `${String(count).padStart(String(total).length)}/${total} ${sign} ${name}: ${passed} passed${failed}${skipped}, ${seconds.toFixed(1)} s`,
  );
  for (const text of notes) console.log(`      ${text}`);
  for (const { command } of left) console.log(`      left behind and killed: ${command.slice(0, 150)}`);
  if (failures.length > 0) for (const { title, why } of failures) console.log(`      ${title}: ${why}`);
}

function summarise(results) {
  const sum = (of) => results.reduce((total, each) => total + of(each), 0);
  const passed = sum((each) => each.passed);
  const failed = sum((each) => each.failures.length);
  const skipped = sum((each) => each.pending.length);
  const seconds = (performance.now() - began) / 1000;

  if (results.length > 1) {
    console.log(`\n${results.length} files in ${seconds.toFixed(0)} s, ${jobs} at a time. The slowest:`);
    const slowest = [...results].sort((a, b) => b.seconds - a.seconds).slice(0, 10);
    for (const each of slowest) console.log(`  ${each.seconds.toFixed(1).padStart(6)} s  ${each.path}`);
  }
  const reasons = byReason(results);
  if (reasons.size > 0) {
    console.log(`\nNOT RUN HERE, ${skipped} tests. What is missing:`);
    for (const [why, tests] of reasons) {
      console.log(`  ${why}`);
      for (const { path, title } of tests) console.log(`    - ${path}: ${title}`);
    }
  }
  if (failed > 0) {
    console.log(`\nFAILED, ${failed}:`);
    for (const { path, failures } of results)
      for (const { title, why } of failures)
        console.log(`  ${path}${title === path ? "" : `: ${title}`}\n    ${why.replaceAll("\n", "\n    ")}`);
  }
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exitCode = failed > 0 ? 1 : 0;
}

/** Returns the pending tests by what is missing. */
function byReason(results) {
  const reasons = new Map();
  for (const { path, pending } of results)
    for (const { title, why } of pending) reasons.set(why, [...(reasons.get(why) ?? []), { path, title }]);
  return reasons;
}
