// Runs the tests in mocha processes, as many at a time as there are processors: a file that takes long has one of its own,
// quick ones share one, since starting it takes longer than their tests. A file that outruns its limit is killed and fails by
// its name; those behind it in its process run in another.
//
//   node scripts/test.mjs [--long] [--jobs N] [--together N] [--limit SECONDS] [--grep TEXT] [--times] [FILE|DIRECTORY ...]
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

/**
 * Seconds of processor time that files took, those that need not be named aside. Files that take long begin first, so that none
 * of them is left alone at the end, and have a process of their own. `--times` writes this anew from a run of all files.
 */
const TIMES = "scripts/test-times.json";

/** Files of less than this share a process. */
const QUICK_SECONDS = 3;

/** What is taken for a file's time where nobody has measured it. */
const UNKNOWN_SECONDS = 1;

/** How many quick files share a process at most: when one hangs or dies, those behind it wait for it, and are loaded again. */
const TOGETHER = 12;

/** A file that changes or measures what is its whole process's has one of its own. */
const ALONE =
  /\bprocess\.(?:memoryUsage|umask|chdir|on|once|prependListener|kill\(process\.pid)\b|\bprocess\.title = |setFlagsFromString|\bglobalThis\.\w+ = |\bnew Worker\(|\/support\/(?:descriptors|probe-signals|event-loop)\.js/;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    long: { type: "boolean", default: false },
    jobs: { type: "string" },
    together: { type: "string" },
    times: { type: "boolean", default: false },
    limit: { type: "string" },
    grep: { type: "string" },
  },
});
const limit = Number(options.limit ?? (options.long ? LIMIT.long : LIMIT.short));
// Files wait a good part of their time; the campaigns' full forms do not, and time what they do.
const jobs = Number(options.jobs ?? availableParallelism() + (options.long ? 0 : 1));
const together = Number(options.together ?? (options.long ? 1 : TOGETHER));
if (!(limit > 0 && Number.isInteger(jobs) && jobs > 0 && Number.isInteger(together) && together > 0)) {
  console.error("--limit takes seconds, --jobs a number of processes, --together a number of files");
  process.exit(2);
}

process.chdir(ROOT);
const place = mkdtempSync(join(tmpdir(), "pvbus-test-"));
const began = performance.now();
const running = new Set();
process.on("exit", () => rmSync(place, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.once(signal, () => {
    for (const run of running) end(run);
    process.exit(1);
  });

const times = new Map(Object.entries(JSON.parse(readFileSync(TIMES, "utf8"))));
const files = selected();
const isLive = files.length === 1;
if (!isLive)
  spawnSync(process.execPath, [FETCH], { stdio: "inherit", timeout: FETCH_MS, killSignal: "SIGKILL" });
const results = await runAll(grouped(files));
summarise(results);
if (options.times) keepTimes(results);

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
  return wanted;
}

/** Returns the files by the processes that they are to run in, those first that take longest. */
function grouped(paths) {
  const isQuick = (path) => secondsOf(path) < QUICK_SECONDS && !ALONE.test(readFileSync(path, "utf8"));
  const quick = paths.filter(isQuick);
  const size = Math.min(together, Math.ceil(quick.length / jobs));
  const groups = paths.filter((path) => !quick.includes(path)).map((path) => [path]);
  // Neighbours load the same modules.
  for (let at = 0; at < quick.length; at += size) groups.push(quick.slice(at, at + size));
  const sum = (group) => group.reduce((total, path) => total + secondsOf(path), 0);
  return groups.sort((a, b) => sum(b) - sum(a));
}

function secondsOf(path) {
  return times.get(nameOf(path)) ?? UNKNOWN_SECONDS;
}

function nameOf(path) {
  return path.replace(/^dist\/test\//, "").replace(/\.test\.js$/, "");
}

function usage(message) {
  console.error(message);
  process.exit(2);
}

/** A file has a long form when it asks the campaigns' helper for its time. */
function isCampaign(path) {
  return readFileSync(path, "utf8").includes("/support/campaign.js");
}

/** Runs groups of files, several at a time; resolves with the files' results in the order in which they ended. */
async function runAll(queue) {
  const results = [];
  const total = queue.flat().length;
  const worker = async () => {
    while (queue.length > 0) {
      for (let waiting = queue.shift(); waiting.length > 0; ) {
        const ended = await run(waiting);
        waiting = waiting.slice(ended.length);
        for (const result of ended) {
          results.push(result);
          if (!isLive) print(result, results.length, total);
        }
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, queue.length) }, worker));
  return results;
}

/**
 * Runs files in one mocha process; resolves when it and what it started are gone, with the results of the files that it came
 * to: one at least, and the last of them is the one that ended it.
 */
async function run(paths) {
  const name = paths[0].replaceAll("/", "_");
  const events = join(place, `${name}.jsonl`);
  writeFileSync(events, "");
  // A runner that is itself under test leaves its own mark in front.
  const id = `${process.env["PVBUS_TEST_RUN"] ?? ""}:${place}/${name}`;
  const mark = `PVBUS_TEST_RUN=${id}`;
  const { timeout } = JSON.parse(readFileSync(".mocharc.json", "utf8"));
  const settings = { events, timeout, grep: options.grep, marks: !isLive };
  const child = spawn(process.execPath, [FILE_RUNNER, JSON.stringify(settings), ...paths], {
    detached: true,
    stdio: ["ignore", isLive ? "inherit" : "pipe", isLive ? "inherit" : "pipe"],
    env: {
      ...process.env,
      PVBUS_TEST_RUN: id,
      PVBUS_TEST_EVENTS: events,
      ...(options.long ? { PVBUS_LONG: "1" } : {}),
    },
  });
  const one = { child, mark };
  running.add(one);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text) => {
      output = (output + text).slice(-OUTPUT_CHARACTERS);
    });
  const started = now();
  const exit = once(child, "exit").catch((error) => [error.message, null]);
  let late;
  let timer;
  // A process that hangs in the kernel outlives its killing.
  const given = new Promise((resolve) => {
    const look = () => {
      const { path = paths[0], at = started } = filesOf(events).at(-1) ?? {};
      const left = limit * 1000 - (now() - at);
      if (left > 0) {
        timer = setTimeout(look, left);
        return;
      }
      late = path;
      end(one);
      timer = setTimeout(resolve, GONE_MS, [null, null]);
    };
    timer = setTimeout(look, limit * 1000);
  });
  const [code, signal] = await Promise.race([exit, given]);
  clearTimeout(timer);
  if (marked(mark).length > 0) await sleep(LEAVE_MS);
  const left = marked(mark);
  end(one);
  running.delete(one);
  // Somebody without the mark may still hold the other ends of the streams.
  const streams = [child.stdout, child.stderr].filter((each) => each !== null);
  const ends = streams.map((each) => each.closed || once(each, "close"));
  await Promise.race([Promise.all(ends), sleep(GONE_MS, undefined, UNREF)]);
  for (const stream of streams) stream.destroy();
  child.unref();

  const begun = filesOf(events);
  if (begun.length === 0) begun.push({ path: paths[0], at: started, events: [] });
  return begun.map(({ path, at, events }, index) => {
    const isLast = index === begun.length - 1;
    const isLate = path === late && !events.some(({ event }) => event === "over");
    const own = left.filter((each) => `${each.mark}:`.startsWith(`${mark}:${path}:`));
    const others = left.filter((each) =>
      begun.every((one) => !`${each.mark}:`.startsWith(`${mark}:${one.path}:`)),
    );
    return judged({
      path,
      code: isLast ? code : 0,
      signal: isLast ? signal : null,
      isLate,
      events,
      seconds: ((begun[index + 1]?.at ?? now()) - at) / 1000,
      left: isLate ? [] : isLast ? [...own, ...others] : own,
      output: outputOf(output, path),
    });
  });
}

/** Milliseconds of the clock that all processes share. */
function now() {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** Returns the files that a process began, each with its events. */
function filesOf(events) {
  const files = [];
  for (const each of readFileSync(events, "utf8").split("\n").flatMap(parsed))
    if (each.event === "file") files.push({ ...each, events: [] });
    else files.at(-1)?.events.push(each);
  return files;
}

/** Returns what was printed while a file ran, and before any did. */
function outputOf(output, path) {
  const [before, ...parts] = output.split("\n\u0001");
  const own = parts.filter((part) => part.startsWith(`${path}\n`)).map((part) => part.slice(path.length + 1));
  return own.length > 0 ? before + own.join("") : before;
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
      const found = readFileSync(`/proc/${name}/environ`, "latin1")
        .split("\0")
        .find((each) => each === mark || each.startsWith(`${mark}:`));
      if (found === undefined) return [];
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
      return [{ pid: Number(name), command, mark: found }];
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

/** Returns what a file's events and its end say together. */
function judged({ path, code, signal, isLate, events, seconds, left, output }) {
  const of = (kind) => events.filter(({ event }) => event === kind);
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
    // One that does not come to its end takes what it takes.
    cpu: of("over")[0]?.cpu ?? seconds,
    passed: passed.length,
    failures,
    pending: pending.filter(({ why }) => why !== undefined),
    notes: of("note").map(({ text }) => text),
    left,
    output,
  };
}

function print({ path, seconds, cpu, passed, failures, pending, notes, left, output }, count, total) {
  const skipped = pending.length > 0 ? `, ${pending.length} skipped` : "";
  const name = path.replace(/^dist\/test\//, "");
  const sign = failures.length > 0 ? "FAILED" : "ok";
  if (failures.length > 0) console.log(`\n${output.trimEnd()}\n`);
  const failed = failures.length > 0 ? `, ${failures.length} failed` : "";
  console.log(
    `${String(count).padStart(String(total).length)}/${total} ${sign} ${name}: ${passed} passed${failed}${skipped}, ${seconds.toFixed(1)} s, processor ${cpu.toFixed(1)} s`,
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
    const cpu = sum((each) => each.cpu).toFixed(0);
    console.log(
      `\n${results.length} files in ${seconds.toFixed(0)} s, ${jobs} processes at a time, ${cpu} s of processor time. The slowest by that:`,
    );
    const slowest = [...results].sort((a, b) => b.cpu - a.cpu).slice(0, 10);
    for (const each of slowest) console.log(`  ${each.cpu.toFixed(1).padStart(6)} s  ${each.path}`);
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

/** Keeps what files took, for the next runs' order. */
function keepTimes(results) {
  if (positionals.length > 0 || options.long || options.grep !== undefined)
    return usage("--times goes with all files and nothing else");
  const long = results.map(({ path, cpu }) => [nameOf(path), Math.round(cpu)]).filter(([, cpu]) => cpu > 1);
  const sorted = long.sort(([a, before], [b, after]) => after - before || a.localeCompare(b));
  writeFileSync(TIMES, `${JSON.stringify(Object.fromEntries(sorted), undefined, 2)}\n`);
}

/** Returns the pending tests by what is missing. */
function byReason(results) {
  const reasons = new Map();
  for (const { path, pending } of results)
    for (const { title, why } of pending) reasons.set(why, [...(reasons.get(why) ?? []), { path, title }]);
  return reasons;
}
