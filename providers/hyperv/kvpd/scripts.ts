import { spawn } from "node:child_process";
import { posix } from "node:path";
import type { Readable } from "node:stream";
import { PvbusError } from "../../../src/base/errors.js";
import { onAbort } from "../../../src/base/flow/abort.js";
import type { Call } from "../../../src/base/flow/call.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import type { Host } from "../../../src/base/host/host.js";
import { signalGroup } from "../../../src/base/host/process-group.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";
import { checkOwnDirectory, ownProgram, writeWhole } from "./own-files.js";

/** What a script left. */
export interface ScriptResult {
  /** Whether it ended by itself with 0. */
  readonly ok: boolean;
  readonly stdout: string;
  /** Why it failed. */
  readonly why: string;
}

/** Runs a program with an argument vector. */
export type RunScript = (path: string, args: readonly string[], call: Call) => Promise<ScriptResult>;

/** More than any list of name servers; a script gone wild must not fill the memory. */
const LONGEST_OUTPUT = 64 * 1024;
/** The environment of a system service, whatever the daemon was started with. */
const ENV = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** Returns the lines of an output that have something in them. */
export function outputLines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

/** How long a script's answer holds. */
const ANSWER_MS = 5_000;

/** How the distribution's scripts are run. */
export interface HostScriptsParts {
  readonly host: Host;
  readonly run: RunScript;
  /** Where they are. */
  readonly folder: string;
  /** Where the files of settings go. */
  readonly directory: string;
  /** A shell that reads them; default: each is a program of its own. */
  readonly shell?: string | undefined;
}

/**
 * The scripts of a machine, which run with the rights of this process: only those that nobody else can change. What one printed
 * holds for some seconds, and one run serves all who ask meanwhile.
 */
export class HostScripts {
  readonly #parts: HostScriptsParts;
  readonly #answers = new Map<string, { at: number; stdout: Promise<string> }>();
  readonly #refused = new Set<string>();

  constructor(parts: HostScriptsParts) {
    this.#parts = parts;
  }

  /** Returns what one prints; what it printed before it failed counts, as for the vendor's daemon. */
  answer(script: string, args: readonly string[], call: Call): Promise<string> {
    return this.#remember([script, ...args], () => this.#run(script, args, call));
  }

  /** As {@link answer}, for a program of the running system. */
  system(program: string, args: readonly string[], call: Call): Promise<string> {
    return this.#remember([program, ...args], () => this.#parts.run(program, args, call));
  }

  /**
   * Puts the files of an interface's settings in place, in a directory that nobody else can change, and has a script apply them.
   * @param files their names and texts, in the order of the script's arguments
   * @throws KvpStatusError when the script is missing, refused, or fails
   */
  async apply(name: string, files: readonly (readonly [string, string])[], call: Call): Promise<void> {
    const { host, folder, directory } = this.#parts;
    checkOwnDirectory(host, directory, "the directory of IP settings");
    const paths: string[] = [];
    for (const [file, text] of files) {
      const path = posix.join(directory, file);
      await writeWhole(host.files, path, text);
      paths.push(host.path(path));
    }
    const { ok, why } = await this.#run("hv_set_ifconfig", paths, call);
    this.#answers.clear();
    if (!ok) throw new KvpStatusError(KvpStatus.fail, `${folder}/hv_set_ifconfig ${name}: ${why}`);
  }

  /** Runs one, or says why it was not run. */
  async #run(script: string, args: readonly string[], call: Call): Promise<ScriptResult> {
    const { host, run, shell, folder } = this.#parts;
    const path = `${folder}/${script}`;
    try {
      const program = ownProgram(host, path);
      if (program === undefined) return { ok: false, stdout: "", why: `${path} is not there (ENOENT)` };
      this.#refused.delete(path);
      return await (shell === undefined ? run(program, args, call) : run(shell, [program, ...args], call));
    } catch (error) {
      if (!PvbusError.is(error)) throw error;
      // The host asks again and again.
      if (!this.#refused.has(path)) host.logger.warn(error.message);
      this.#refused.add(path);
      return { ok: false, stdout: "", why: error.message };
    }
  }

  #remember(words: readonly string[], run: () => Promise<ScriptResult>): Promise<string> {
    const key = words.join("\0");
    const known = this.#answers.get(key);
    const now = monotonicMs();
    if (known !== undefined && now - known.at < ANSWER_MS) return known.stdout;
    const stdout = run().then((result) => result.stdout);
    this.#answers.set(key, { at: now, stdout });
    return stdout;
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
      env: ENV,
      cwd: "/",
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    // Without file descriptors left there are no pipes, and "error" follows.
    const [output, errors] = [child.stdout, child.stderr] as (Readable | undefined)[];
    let ended: string | undefined;
    const stop = (why: string): void => {
      ended ??= why;
      signalGroup(child.pid, "SIGKILL");
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
      const why =
        code === 0 ? undefined : stderr().trim().split("\n", 1)[0] || `ended with ${code ?? signal}`;
      settle(ended ?? why);
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
