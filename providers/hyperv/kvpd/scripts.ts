import { execFile } from "node:child_process";
import type { Call } from "../../../src/bus/call.js";

/** What a script left. */
export interface ScriptResult {
  /** Whether it ended by itself with 0. */
  readonly ok: boolean;
  /** Its standard output. */
  readonly stdout: string;
  /** Why it failed. */
  readonly why: string;
}

/** Runs a program with an argument vector. */
export type RunScript = (path: string, args: readonly string[], call: Call) => Promise<ScriptResult>;

/** More than any list of name servers; a script gone wild must not fill the memory. */
const LONGEST_OUTPUT = 64 * 1024;
/** The environment of a system service, whatever the daemon was started with. */
const ENVIRONMENT = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** Gives the lines of an output that have something in them. */
export function outputLines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

/** How long a script's answer holds. */
const ANSWER_MS = 5_000;

/** What scripts printed: an answer holds for some seconds, and one run serves all who ask meanwhile. */
export class ScriptAnswers {
  readonly #run: RunScript;
  readonly #answers = new Map<string, { at: number; stdout: Promise<string> }>();

  /** @param run runs a script */
  constructor(run: RunScript) {
    this.#run = run;
  }

  /** Gives what a script prints; what it printed before it failed counts, as for the vendor's daemon. */
  get(path: string, args: readonly string[], call: Call): Promise<string> {
    const key = [path, ...args].join("\0");
    const known = this.#answers.get(key);
    const now = performance.now();
    if (known !== undefined && now - known.at < ANSWER_MS) return known.stdout;
    const stdout = this.#run(path, args, call).then((result) => result.stdout);
    this.#answers.set(key, { at: now, stdout });
    return stdout;
  }

  /** Forgets all: the settings have changed. */
  clear(): void {
    this.#answers.clear();
  }
}

/** Runs a script of the distribution: no shell of ours, killed at the call's end with a clear word about it. */
export const runScript: RunScript = (path, args, call) =>
  new Promise((resolve) => {
    const timeout = Math.max(1, Math.ceil(Math.min(call.remainingMs, 2 ** 31 - 1)));
    const options = {
      encoding: "utf8",
      timeout,
      killSignal: "SIGKILL",
      maxBuffer: LONGEST_OUTPUT,
      env: ENVIRONMENT,
      cwd: "/",
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    } as const;
    const child = execFile(path, args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ ok: true, stdout, why: "" });
      else {
        const said = stderr.trim().split("\n", 1)[0] ?? "";
        const why = error.killed === true ? `did not end within ${timeout} ms` : said || error.message;
        resolve({ ok: false, stdout, why });
      }
    });
    child.stdin?.end();
  });
