// Test files in mocha, one after the other in one process, without mocha's command line: loading that takes longer than most
// files' tests, and so do source maps for every module, where only a failure's stack needs some (see test-reporter.mjs).
//
//   node scripts/test-file.mjs '{"events": FILE, "timeout": MS, "grep": TEXT, "marks": BOOLEAN}' FILE...
//
// A file begins when nothing of the one before it keeps the process alive any more: "beforeExit" comes then, and then only.
// So one that leaves something open hangs under its own name, as it would alone, and does not disturb the next.
import { appendFileSync, readFileSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import Mocha from "mocha";
import TestReporter from "./test-reporter.mjs";

const [settings = "{}", ...files] = process.argv.slice(2);
const { events, timeout, grep, marks } = JSON.parse(settings);
const environment = { ...process.env };
const folder = process.cwd();

let current;
let isOver = true;
let failed = 0;
let spent = 0;

process.on("beforeExit", next);
process.on("exit", () => {
  // A file that sets the code itself, and what ends later, do not hide the failures.
  if (isOver) process.exitCode = Math.min(failed, 255);
});
await next();

async function next() {
  // Tests that wait for nothing, and modules that do, end the process as they would alone.
  if (!isOver) return;
  if (current !== undefined) {
    const before = spent;
    spent = processorSeconds();
    tell("over", { cpu: spent - before });
  }
  current = files.shift();
  if (current === undefined) {
    process.off("beforeExit", next);
    return;
  }
  begin(current);
  const mocha = new Mocha({
    timeout,
    forbidOnly: true,
    reporter: TestReporter,
    reporterOption: { events },
    grep,
  });
  mocha.addFile(resolve(current));
  await mocha.loadFilesAsync();
  mocha.run((failures) => {
    failed = failures;
    isOver = true;
  });
}

/** Begins a file, with what the one before it may have changed as it was. */
function begin(file) {
  isOver = false;
  failed = 0;
  process.exitCode = undefined;
  if (process.cwd() !== folder) process.chdir(folder);
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
  Object.assign(process.env, environment);
  // What a file starts has the file's own mark.
  if (environment.PVBUS_TEST_RUN !== undefined)
    process.env.PVBUS_TEST_RUN = `${environment.PVBUS_TEST_RUN}:${file}`;
  tell("file", { path: file, at: Number(process.hrtime.bigint() / 1_000_000n) });
  if (marks) writeSync(1, `\n\u0001${file}\n`);
}

function tell(event, more) {
  if (events !== undefined) appendFileSync(events, `${JSON.stringify({ event, ...more })}\n`);
}

/** Returns the processor time of this process, and on Linux of those that it started and saw end. */
function processorSeconds() {
  const { user, system } = process.cpuUsage();
  let ticks = 0;
  try {
    const stat = readFileSync("/proc/self/stat", "latin1");
    // Behind the name, which may hold blanks: the state is the third field, the children's times are the 16th and 17th.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks = Number(fields[13]) + Number(fields[14]);
  } catch {
    // There is no /proc.
  }
  return (user + system) / 1e6 + ticks / 100;
}
