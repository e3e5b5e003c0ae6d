import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { manifestOf } from "../../providers/testing.js";
import { runPvbus, type World } from "../../src/cli/program.js";
import { BUILT_IN } from "../../src/composition.js";
import type { Bus, Host, OpenOptions, Provider, ProviderManifest } from "../../src/index.js";
import { openPvbus } from "../../src/index.js";
import { ROOT } from "./pools.js";

/** The built command line. */
export const PROGRAM = join(ROOT, "dist/bin/pvbus.cjs");

/** A recorded machine without any hypervisor, so that a run is the same on every machine. */
export const BARE = { os: "linux", arch: "x64", input: {} };

/** What a run left. */
export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a run may find different. */
export interface Surroundings {
  /** Whether its outputs are a terminal. */
  readonly tty?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly readInput?: () => Promise<Uint8Array>;
  /** Provider whose store `-t TYPE` opens. */
  readonly provider?: new (
    host: Host,
  ) => Provider;
  readonly open?: (options: OpenOptions) => Promise<Bus>;
  readonly signal?: AbortSignal;
  /** Whether the program has rights that its caller has not. */
  readonly isElevated?: boolean;
  /** Sees each message as it is written. */
  readonly onMessage?: (text: string) => void;
}

/** Returns the manifest of a class that stands for the memory store. */
function memoryOf(Class: new (host: Host) => Provider): ProviderManifest {
  return manifestOf({ id: "memory", type: "Memory" }, (host) => new Class(host));
}

/** Runs the command line in this process. */
export async function run(argv: readonly string[], surroundings: Surroundings = {}): Promise<Run> {
  const { provider, tty: isTTY = false, env = {}, readInput = async () => new Uint8Array() } = surroundings;
  const written: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
  const world: World = {
    version: "0.0.0",
    stdout: { isTTY, write: (data) => written.stdout.push(Buffer.from(data as string)) },
    stderr: {
      isTTY,
      write: (data) => {
        written.stderr.push(Buffer.from(data as string));
        surroundings.onMessage?.(String(data));
      },
    },
    env,
    readInput,
    builtIn: [...BUILT_IN, ...(provider === undefined ? [] : [memoryOf(provider)])],
    open:
      surroundings.open ??
      ((options) =>
        openPvbus({
          snapshot: BARE,
          ...options,
          providers: [...(options.providers ?? []), ...(provider === undefined ? [] : [memoryOf(provider)])],
        })),
    isElevated: surroundings.isElevated === true,
    untilInterrupted: () => surroundings.signal ?? new AbortController().signal,
  };
  const code = await runPvbus(argv, world);
  return {
    code,
    stdout: Buffer.concat(written.stdout).toString(),
    stderr: Buffer.concat(written.stderr).toString(),
  };
}

/** Runs a bash script with `"$node" "$pvbus"` at hand. */
export function bash(script: string, env: NodeJS.ProcessEnv = {}): Run {
  const { stdout, stderr, status } = spawnSync("bash", ["-c", script], {
    encoding: "utf8",
    env: { ...process.env, node: process.execPath, pvbus: PROGRAM, ...env },
  });
  return { stdout, stderr, code: status ?? -1 };
}
