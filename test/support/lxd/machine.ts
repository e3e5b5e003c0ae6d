import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { debianTree } from "../debian-packages.js";
import { ROOT } from "../pools.js";

/** Whose daemon it is: Incus of Debian 13, LXD of Debian 12. */
export type Product = "incus" | "lxd";

const SOURCES = join(ROOT, "test/support/lxd");
const TOOLS =
  "lxcfs busybox-static base-files bash coreutils util-linux mount tar gzip xz-utils procps iproute2 grep findutils sed";
const SUITES = { incus: "trixie", lxd: "bookworm" } as const;
const START_MS = 90_000;
const ANSWER_MS = 60_000;
const COMMAND_MS = 60_000;

/** What the guest answered. */
export interface Told {
  readonly value?: unknown;
  readonly code?: string;
  readonly message?: string;
}

/** Tells why no daemon can run here; undefined when one can. */
export function whyNoDaemon(product: Product): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64")
    return "Debian's packages are for x86-64 Linux here";
  if (process.getuid?.() !== 0) return "a daemon of LXD or Incus needs root";
  const isV2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].some((top) =>
    existsSync(join(top, "cgroup.controllers")),
  );
  if (!isV2) return "no cgroup v2 is mounted here";
  const unshared = spawnSync("unshare", [
    "-m",
    "-p",
    "-n",
    "-u",
    "-i",
    "-C",
    "--fork",
    "mount",
    "-t",
    "tmpfs",
    "none",
    "/mnt",
  ]);
  if (unshared.status !== 0) return "unshare(1) cannot make namespaces here";
  try {
    treeOf(product);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function treeOf(product: Product): { readonly directory: string; readonly version: string } {
  const names = product === "incus" ? ["incus-base", "incus-client"] : ["lxd", "lxd-client"];
  return debianTree(product, [...names, ...TOOLS.split(" ")], SUITES[product], { withDependencies: true });
}

/** A daemon of Debian's, unmodified, in namespaces of its own, with one unprivileged container `c1`. */
export class LxdMachine implements AsyncDisposable {
  readonly product: Product;
  /** Version of the daemon's package. */
  readonly version: string;
  readonly #work: string;
  readonly #child: ChildProcess;
  readonly #first: string;

  private constructor(product: Product, version: string, work: string, child: ChildProcess) {
    this.product = product;
    this.version = version;
    this.#work = work;
    this.#child = child;
    this.#first =
      readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim().split(" ")[0] ?? "";
  }

  /** Starts the daemon and the container. @throws Error with what was printed */
  static async start(product: Product): Promise<LxdMachine> {
    const { directory, version } = treeOf(product);
    const work = mkdtempSync(join(tmpdir(), "pvbus-lxd-"));
    chmodSync(work, 0o755);
    const shared = join(work, "shared");
    mkdirSync(shared);
    chmodSync(shared, 0o777);
    cpSync(join(SOURCES, "inside.sh"), join(shared, "inside.sh"));
    putNode(shared);
    const modules = realpathSync(join(ROOT, "node_modules"));
    const child = spawn(
      "bash",
      [join(SOURCES, "machine.sh"), product, realpathSync(directory), work, ROOT, modules],
      { stdio: ["ignore", "pipe", "pipe"], detached: true },
    );
    let printed = "";
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new Error(`${product} did not start: ${why}\n${printed.slice(-2000)}`));
      const late = setTimeout(() => fail("it takes too long"), START_MS);
      const note = (chunk: Buffer): void => {
        printed += chunk;
        if (!/^ready$/m.test(printed)) return;
        clearTimeout(late);
        resolve();
      };
      child.stdout.on("data", note);
      child.stderr.on("data", note);
      child.once("exit", (code) => fail(`exit code ${code}`));
    }).catch((error: unknown) => {
      if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      tidy(work);
      throw error;
    });
    child.removeAllListeners("exit");
    return new LxdMachine(product, version, work, child);
  }

  /** Runs a command beside the daemon, as the host's administrator. @throws Error when it fails */
  host(...command: readonly string[]): string {
    const args = [
      "-t",
      this.#first,
      "-m",
      "-p",
      "-n",
      "-u",
      "-i",
      "--",
      "env",
      "PATH=/usr/libexec/incus:/usr/sbin:/usr/bin",
      "HOME=/root",
    ];
    const { status, stdout, stderr } = spawnSync("nsenter", [...args, ...command], {
      encoding: "utf8",
      timeout: COMMAND_MS,
    });
    if (status === 0) return stdout;
    throw new Error(`${command.join(" ").slice(0, 200)} failed (${status}): ${stderr.slice(-500)}`);
  }

  /** Runs the client's command: `config set c1 user.a=b`. */
  client(...args: readonly string[]): string {
    return this.host(this.product === "incus" ? "incus" : "lxc", ...args);
  }

  /** Sets several keys of the container at once. */
  set(pairs: Readonly<Record<string, string>>): void {
    this.client("config", "set", "c1", ...Object.entries(pairs).map(([key, value]) => `${key}=${value}`));
  }

  /** Switches the guest API. */
  enable(isOn: boolean): void {
    this.set({ [this.product === "incus" ? "security.guestapi" : "security.devlxd"]: String(isOn) });
  }

  /** Kills the daemon; its containers go on. */
  kill(): void {
    this.host("kill", "-9", readFileSync(join(this.#work, "shared/daemon.pid"), "utf8").trim());
  }

  /** Starts the daemon again. */
  restart(): void {
    this.host("bash", "/run/daemon");
  }

  /** Starts the program that a test speaks with inside the container. @param uid whose it is, inside */
  async guest(uid = 0): Promise<Guest> {
    const name = `guest-${uid}`;
    const files = { socket: `/lab/work/${name}.sock`, pid: `/lab/work/${name}.pid` };
    const node = `/lab/work/node/${loaderOf()} --library-path /lab/work/node /lab/work/node/node`;
    const program = "/lab/repository/dist/test/support/lxd/guest.js";
    this.client(
      ...["exec", "c1", "-T", "--user", String(uid), "--", "sh", "-c"],
      `${node} ${program} ${files.socket} ${files.pid} </dev/null >/lab/work/${name}.log 2>&1 &`,
    );
    const pidFile = join(this.#work, "shared", `${name}.pid`);
    const until = Date.now() + ANSWER_MS;
    while (!existsSync(pidFile)) {
      if (Date.now() > until)
        throw new Error(
          `the guest does not start: ${readFileSync(pidFile.replace(/pid$/, "log"), "utf8").slice(-800)}`,
        );
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return new Guest(join(this.#work, "shared", `${name}.sock`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    // The first process of its namespace: all others end with it.
    process.kill(Number(this.#first), "SIGKILL");
    await ended;
    tidy(this.#work);
  }
}

/** What runs inside the container. */
export class Guest {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Has it do something, and returns what became of it. */
  async tell(...request: readonly string[]): Promise<Told> {
    const peer = createConnection(this.#path);
    try {
      return await new Promise<Told>((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`no answer to ${request.join(" ")}`)), ANSWER_MS);
        peer.once("error", reject);
        createInterface({ input: peer }).once("line", (line) => {
          clearTimeout(late);
          resolve(JSON.parse(line) as Told);
        });
        peer.write(`${JSON.stringify(request)}\n`);
      });
    } finally {
      peer.destroy();
    }
  }

  /** The same for what must not fail. */
  async ask(...request: readonly string[]): Promise<unknown> {
    const { value, code, message } = await this.tell(...request);
    if (code !== undefined) throw new Error(`${request.join(" ")}: ${code}: ${message}`);
    return value;
  }
}

/** Puts this Node with its libraries where a container without any finds it. */
function putNode(shared: string): void {
  const place = join(shared, "node");
  mkdirSync(place);
  cpSync(realpathSync(process.execPath), join(place, "node"));
  for (const library of libraries()) cpSync(realpathSync(library), join(place, basename(library)));
}

function libraries(): readonly string[] {
  const { stdout } = spawnSync("ldd", [process.execPath], { encoding: "utf8" });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)].map(([, path = ""]) => path);
}

function loaderOf(): string {
  return basename(libraries().find((path) => basename(path).startsWith("ld-")) ?? "");
}

function tidy(work: string): void {
  const noted = join(work, "cgroup");
  const group = existsSync(noted) ? readFileSync(noted, "utf8").trim() : "";
  if (group.startsWith("/sys/fs/cgroup/") && basename(group).startsWith("pvbus-")) removeGroup(group);
  rmSync(work, { recursive: true, force: true });
}

/** Only empty groups are left; those that end a moment later are waited for. */
function removeGroup(group: string): void {
  for (const each of readdirSync(group, { withFileTypes: true }))
    if (each.isDirectory()) removeGroup(join(group, each.name));
  for (let attempt = 0; attempt < 20; attempt++)
    try {
      rmdirSync(group);
      return;
    } catch {
      spawnSync("sleep", ["0.05"]);
    }
  console.warn(`${dirname(group)}: a group of control is left`);
}
