import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT } from "./pools.js";

/** What a finished process left. */
export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts a program and gives it with the promise of its outcome. */
export function start(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): { child: ChildProcess; done: Promise<Outcome> } {
  const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const done = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, done };
}

/** Starts a compiled program of test/support. */
export function startWorker(name: string, args: readonly string[]): ReturnType<typeof start> {
  return start(process.execPath, [join(ROOT, "dist/test/support", `${name}.js`), ...args]);
}

/** Returns a Python 3 that runs the given statement, or undefined. */
export function findPython(statement: string): string | undefined {
  return ["/usr/bin/python3", "python3"].find((name) => spawnSync(name, ["-c", statement]).status === 0);
}
