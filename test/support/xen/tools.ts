import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Daemon } from "./daemons.js";
import { xenEnvironment } from "./packages.js";

const run = promisify(execFile);
const LONGEST_OUTPUT = 64 << 20;

/** Returns the environment in which the tools find a daemon and their libraries. */
export function environmentOf({ packages, path }: Pick<Daemon, "packages" | "path">): NodeJS.ProcessEnv {
  return { ...xenEnvironment(packages), XENSTORED_PATH: path };
}

/** Runs one of Debian's `xenstore-*` tools on a daemon and gives what it printed. */
export async function tool(daemon: Daemon, name: string, ...args: readonly string[]): Promise<Buffer> {
  const options = { env: environmentOf(daemon), encoding: "buffer", maxBuffer: LONGEST_OUTPUT } as const;
  return (await run(join(daemon.packages, "usr/bin", `xenstore-${name}`), args, options)).stdout;
}

/** Starts one of the tools. */
export function startTool(daemon: Daemon, name: string, ...args: readonly string[]): ChildProcess {
  return spawn(join(daemon.packages, "usr/bin", `xenstore-${name}`), args, {
    env: environmentOf(daemon),
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Compiles a C program against libxenstore; undefined without a compiler. */
export function compiled(packages: string, source: string): string | undefined {
  const program = join(packages, `built-${source.replace(/.*\//, "").replace(/\.c$/, "")}`);
  const libraries = join(packages, "usr/lib/x86_64-linux-gnu");
  const made = `${program}.${process.pid}`;
  const { status } = spawnSync("cc", [
    "-O2",
    `-I${join(packages, "usr/include")}`,
    `-L${libraries}`,
    "-o",
    made,
    source,
    "-lxenstore",
    `-Wl,-rpath-link,${libraries}`,
  ]);
  if (status === 0) renameSync(made, program);
  return status === 0 && existsSync(program) ? program : undefined;
}

/** Runs a compiled program on a daemon and gives what it printed. */
export async function program(daemon: Daemon, path: string, ...args: readonly string[]): Promise<string> {
  return (await run(path, args, { env: environmentOf(daemon) })).stdout;
}
