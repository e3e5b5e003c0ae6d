import { spawn } from "node:child_process";
import { join } from "node:path";

const PROGRAM = join(import.meta.dirname, "../../../bin/pvbus.cjs");

/** What a command left. */
export interface CommandOutcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Under emulation and beside other machines a start takes its time. */
export const SLOW_MS = 120_000;

/** Runs the package's `pvbus` in the machine. */
export function pvbus(command: string, ...args: readonly string[]): Promise<CommandOutcome> {
  const child = spawn(process.execPath, [PROGRAM, command, "--timeout", String(SLOW_MS / 1000), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
}
