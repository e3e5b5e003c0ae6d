import { spawnSync } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root, seen from the compiled lab. */
export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
/** What is downloaded or made once; git ignores it. */
export const CACHE = join(ROOT, ".lab-cache");

/** Runs a program and gives its standard output. @throws Error with its last words when it fails */
export function run(command: string, args: readonly string[], options: { cwd?: string } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    ...options,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (error !== undefined) throw new Error(`${command}: ${error.message}`);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr.trim() || `exit ${status}`}`);
  return stdout;
}
