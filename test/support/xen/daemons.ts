import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../pools.js";
import { xenEnvironment, xenPackages } from "./packages.js";

const SCRIPT = join(ROOT, "test/support/xen/oxenstored.sh");

/** Settings of a daemon under test. */
export interface DaemonOptions {
  /** Further lines of oxenstored's configuration: `test-eagain = true`. */
  readonly configuration?: readonly string[];
}

/** A running xenstored. */
export interface Daemon extends AsyncDisposable {
  /** Its socket. */
  readonly path: string;
  /** The unpacked packages it comes from. */
  readonly packages: string;
  /** Its process. */
  readonly child: ChildProcess;
  /** Kills it at once. */
  kill(): Promise<void>;
  /** Starts another one, without its data, on the same socket. */
  restart(): Promise<void>;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

/** Tells why oxenstored cannot run here; undefined when it can. */
export function whyNoOxenstored(): string | undefined {
  const packages = xenPackages();
  if ("why" in packages) return packages.why;
  const { status } = spawnSync("unshare", [...unshareArguments(), "true"]);
  return status === 0 ? undefined : "unshare(1) cannot make a mount namespace here";
}

function unshareArguments(): string[] {
  return process.geteuid?.() === 0 ? ["-m"] : ["-U", "-r", "-m"];
}

/** Starts Debian's oxenstored, unmodified and without Xen; whoever connects is dom0. */
export async function startOxenstored(options: DaemonOptions = {}): Promise<Daemon> {
  const packages = packagesOrThrow();
  const directory = mkdtempSync(join(tmpdir(), "pvbus-oxenstored-"));
  const path = join(directory, "socket");
  const configuration = join(directory, "oxenstored.conf");
  writeFileSync(
    configuration,
    [
      `pid-file = ${join(directory, "pid")}`,
      `xenstored-log-file = ${join(directory, "log")}`,
      "persistent = false",
      ...(options.configuration ?? ["quota-path-max = 1024"]),
      "",
    ].join("\n"),
  );
  const start = async (): Promise<ChildProcess> => {
    const server = createServer();
    const made = `${path}.new`;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(made, resolve);
    });
    // Closing the server removes the file under its old name only.
    renameSync(made, path);
    const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
    const program = join(packages, "usr/lib/xen-4.17/bin/oxenstored");
    const child = spawn("unshare", [...unshareArguments(), "sh", SCRIPT, directory, program, configuration], {
      stdio: ["ignore", "pipe", "pipe", fd, "pipe"],
      env: xenEnvironment(packages),
    });
    server.close();
    await said(child, /Xen Storage Daemon/);
    return child;
  };
  return managed(path, directory, packages, start);
}

/** Waits for a line of a program; fails when it ends before. */
export async function said(child: ChildProcess, pattern: RegExp): Promise<void> {
  let text = "";
  await new Promise<void>((resolve, reject) => {
    const look = (data: Buffer): void => {
      text += data;
      if (pattern.test(text)) resolve();
    };
    child.stdout?.on("data", look);
    child.stderr?.on("data", look);
    child.once("error", reject);
    child.once("close", (code, signal) => reject(new Error(`it ended with ${code ?? signal}: ${text}`)));
  });
}

/** Gives the handle of a daemon that `start` starts. */
export async function managed(
  path: string,
  directory: string,
  packages: string,
  start: () => Promise<ChildProcess>,
): Promise<Daemon> {
  let child = await start();
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, "close");
    child.kill(signal);
    await closed;
  };
  const stop = async (): Promise<void> => {
    await end("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  };
  return {
    path,
    packages,
    get child() {
      return child;
    },
    kill: () => end("SIGKILL"),
    restart: async () => {
      await end("SIGKILL");
      child = await start();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

export function packagesOrThrow(): string {
  const packages = xenPackages();
  if ("why" in packages) throw new Error(packages.why);
  return packages.directory;
}
