import { createInterface } from "node:readline";
import { openPvbus } from "../../src/index.js";
import { run } from "./command-line.js";

/** One command to run, and what became of it. */
export interface HostileRun {
  readonly argv: readonly string[];
  readonly code: number;
  readonly ms: number;
  readonly output: string;
}

/** A command that watches is ended after that time, as by a signal. */
const WATCH_MS = 60;

// A process of its own, which may be stopped when a command never ends: a line of jobs, then a line for each run, and so on.
for await (const jobs of createInterface({ input: process.stdin })) {
  for (const argv of JSON.parse(jobs) as string[][]) {
    process.stdout.write(`${JSON.stringify({ begun: argv })}\n`);
    const started = performance.now();
    const { code, stdout, stderr } = await run(argv, {
      open: (options) => openPvbus(options),
      signal: AbortSignal.timeout(WATCH_MS),
    });
    const done: HostileRun = {
      argv,
      code,
      ms: performance.now() - started,
      output: `${stdout}\n${stderr}`,
    };
    process.stdout.write(`${JSON.stringify(done)}\n`);
  }
}
process.exit(0);
