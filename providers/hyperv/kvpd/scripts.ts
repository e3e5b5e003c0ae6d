import { spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { onAbort } from "../../../src/bus/abort.js";
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

/**
 * Runs a script of the distribution without a shell of ours, in a process group of its own; the group is killed at the
 * call's end, and when the script prints without end.
 */
export const runScript: RunScript = (path, args, call) =>
  new Promise((resolve) => {
    const limit = Math.max(1, Math.ceil(Math.min(call.remainingMs, 2 ** 31 - 1)));
    const child = spawn(path, args, {
      env: ENVIRONMENT,
      cwd: "/",
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    // Without file descriptors left there are no pipes, and "error" follows.
    const [output, errors] = [child.stdout, child.stderr] as (Readable | undefined)[];
    let ended: string | undefined;
    const stop = (why: string): void => {
      ended ??= why;
      endGroup(child.pid);
      // A process that left the group may still hold the pipes.
      output?.destroy();
      errors?.destroy();
    };
    const timer = setTimeout(() => stop(`did not end within ${limit} ms`), limit);
    const forget = onAbort(call.signal, () => stop("was given up"));
    const stdout = collect(output, stop);
    const stderr = collect(errors, stop);
    const settle = (failure: string | undefined): void => {
      clearTimeout(timer);
      forget();
      resolve({ ok: failure === undefined, stdout: stdout(), why: failure ?? "" });
    };
    child.once("error", (error) => settle(error.message));
    child.once("close", (code, signal) => {
      if (ended !== undefined) settle(ended);
      else if (code === 0) settle(undefined);
      else settle(stderr().trim().split("\n", 1)[0] || `ended with ${code ?? signal}`);
    });
  });

/** Gathers the text of a stream, up to the longest that is of use. */
function collect(stream: Readable | undefined, stop: (why: string) => void): () => string {
  let text = "";
  stream?.setEncoding("utf8").on("data", (part: string) => {
    text = (text + part).slice(0, LONGEST_OUTPUT);
    if (text.length === LONGEST_OUTPUT) stop(`printed more than ${LONGEST_OUTPUT} characters`);
  });
  return () => text;
}

/** Ends a script and what it has started. */
function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All of them have ended by themselves.
  }
}
