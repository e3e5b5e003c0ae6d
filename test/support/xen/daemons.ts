import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  encodeMessage,
  encodeStrings,
  MessageDecoder,
  XENSTORE_PAYLOAD_MAX,
  XS,
} from "../../../providers/xen/protocol/wire.js";
import { ROOT } from "../pools.js";
import { xenEnvironment, xenPackages } from "./packages.js";

const STAND_IN = join(ROOT, "test/support/xen/stand-in.c");
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
  return unshareArguments() === undefined ? "unshare(1) cannot make a mount namespace here" : undefined;
}

/** Returns how a mount namespace can be had: as root, or as anybody in a user namespace. */
function unshareArguments(): readonly string[] | undefined {
  return [["-m"], ["-U", "-r", "-m"]].find(
    (each) => spawnSync("unshare", [...each, "mount", "-t", "tmpfs", "none", "/mnt"]).status === 0,
  );
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
    const child = spawn(
      "unshare",
      [...(unshareArguments() ?? []), "sh", SCRIPT, directory, program, configuration],
      {
        stdio: ["ignore", "pipe", "pipe", fd, "pipe"],
        env: xenEnvironment(packages),
      },
    );
    server.close();
    await said(child, /Xen Storage Daemon/);
    return child;
  };
  return managed(path, directory, packages, start);
}

/** Tells why the C xenstored cannot run here; undefined when it can. */
export function whyNoXenstored(): string | undefined {
  const packages = xenPackages();
  if ("why" in packages) return packages.why;
  const library = standIn();
  return "why" in library ? library.why : undefined;
}

/** Compiles what stands in for the Xen libraries. */
function standIn(): { readonly path: string } | { readonly why: string } {
  const packages = packagesOrThrow();
  const source = readFileSync(STAND_IN);
  const path = join(
    packages,
    `stand-in-${createHash("sha256").update(source).digest("hex").slice(0, 16)}.so`,
  );
  if (existsSync(path)) return { path };
  const made = `${path}.${process.pid}`;
  const { status, error, stderr } = spawnSync(
    "cc",
    ["-O1", "-shared", "-fPIC", "-o", made, STAND_IN, "-ldl", "-lpthread"],
    { encoding: "utf8" },
  );
  if (status !== 0)
    return { why: `no C compiler for the stand-in of Xen's libraries: ${error?.message ?? stderr}` };
  renameSync(made, path);
  return { path };
}

/** The C xenstored: whoever connects to its socket is dom0, and guests can be introduced. */
export interface CDaemon extends Daemon {
  /** Creates a guest as a toolstack does, and gives the socket on which a test speaks as that guest. */
  guest(domain: number): Promise<string>;
}

/** Starts Debian's C xenstored on a stand-in for the Xen libraries. */
export async function startXenstored(): Promise<CDaemon> {
  const packages = packagesOrThrow();
  const library = standIn();
  if ("why" in library) throw new Error(library.why);
  const directory = mkdtempSync(join(tmpdir(), "pvbus-xenstored-"));
  const path = join(directory, "socket");
  const start = async (): Promise<ChildProcess> => {
    const child = spawn(join(packages, "usr/lib/xen-4.17/bin/xenstored"), ["-N"], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...xenEnvironment(packages), LD_PRELOAD: library.path, XENSTORED_RUNDIR: directory },
    });
    await answering(path, child);
    return child;
  };
  const daemon = await managed(path, directory, packages, start);
  return Object.assign(daemon, {
    guest: async (domain: number): Promise<string> => {
      await introduce(path, domain);
      return join(directory, `guest-${domain}`);
    },
  });
}

/** Waits until a program listens. */
async function answering(path: string, child: ChildProcess): Promise<void> {
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error("it ended at once");
    const socket = connect(path);
    try {
      await once(socket, "connect");
      return;
    } catch {
      // Not yet: nothing tells when it begins to listen.
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      socket.destroy();
    }
  }
}

/** Does what a toolstack does for a new guest, message by message. */
async function introduce(path: string, domain: number): Promise<void> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    const home = `/local/domain/${domain}`;
    const readable = ["n0", `r${domain}`];
    const own = [`n${domain}`];
    const steps: (readonly [type: number, payload: Buffer])[] = [];
    const give = (node: string, value: string, permissions: readonly string[]): void => {
      steps.push(
        [XS.WRITE, Buffer.from(`${node}\0${value}`)],
        [XS.SET_PERMS, encodeStrings(node, ...permissions)],
      );
    };
    give(home, "", readable);
    give(`${home}/domid`, String(domain), readable);
    give(`${home}/name`, `guest-${domain}`, readable);
    for (const directory of ["data", "attr", "vm-data"]) give(`${home}/${directory}`, "", own);
    steps.push([XS.INTRODUCE, encodeStrings(String(domain), "1", "5")]);
    await new Promise<void>((resolve, reject) => {
      let left = steps.length;
      const decoder = new MessageDecoder(
        XENSTORE_PAYLOAD_MAX,
        (type, _id, _transaction, bytes, start, end) => {
          if (type === XS.ERROR) reject(new Error(bytes.toString("latin1", start, end)));
          if (--left === 0) resolve();
        },
      );
      socket.on("data", (chunk) => decoder.push(chunk)).once("error", reject);
      for (const [requestId, [type, payload]] of steps.entries())
        socket.write(encodeMessage({ type, requestId, transactionId: 0, payload }));
    });
  } finally {
    socket.destroy();
  }
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

/** Returns the handle of a daemon that `start` starts. */
export async function managed(
  path: string,
  directory: string,
  packages: string,
  start: () => Promise<ChildProcess>,
): Promise<Daemon> {
  let child = await start();
  // A run that breaks off must leave no daemon behind.
  const leave = (): void => {
    child.kill("SIGKILL");
    rmSync(directory, { recursive: true, force: true });
  };
  process.once("exit", leave);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, "close");
    child.kill(signal);
    await closed;
  };
  const stop = async (): Promise<void> => {
    await end("SIGKILL");
    process.removeListener("exit", leave);
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
