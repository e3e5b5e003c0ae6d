/** Tries what a confined service must not do, and prints what became of each as JSON: `ok`, or the errno's name. */
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";

/** What became of an attempt. */
export type Attempts = Readonly<Record<string, string>>;

const [state = ""] = process.argv.slice(2);
const outcomes: Record<string, string> = {};

const attempt = (what: string, action: () => unknown): void => {
  try {
    action();
    outcomes[what] = "ok";
  } catch (error) {
    outcomes[what] = (error as NodeJS.ErrnoException).code ?? (error as Error).name;
  }
};
const program = (command: string, ...args: readonly string[]): void => {
  const { status, error, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status !== 0) throw Object.assign(new Error(stderr), { code: `exit ${status}` });
};
const dial = (what: string, where: string | { host: string; port: number }): Promise<void> =>
  new Promise((resolve) => {
    const socket =
      typeof where === "string" ? createConnection(where) : createConnection(where.port, where.host);
    const end = (outcome: string): void => {
      outcomes[what] = outcome;
      socket.destroy();
      resolve();
    };
    socket.once("connect", () => end("ok"));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.name));
  });

for (const directory of [
  "/etc",
  "/usr/bin",
  "/run",
  "/srv",
  "/mnt",
  "/var/lib",
  "/root",
  "/sys/kernel",
  "/proc/sys/kernel",
])
  attempt(`write ${directory}`, () => writeFileSync(join(directory, "probe"), ""));
attempt("write state", () => writeFileSync(join(state, "probe"), "#!/bin/sh\n"));
attempt("run what it wrote", () => {
  chmodSync(join(state, "probe"), 0o755);
  program(join(state, "probe"));
});
attempt("chown", () => chownSync(join(state, "probe"), 1007, 1007));
attempt("remove", () => rmSync(join(state, "probe")));
attempt("run a script", () => program("/bin/sh", "-c", "exit 0"));
attempt("compile text", () => new Function("return 1")());
attempt("become another user", () => process.setuid?.(1007));
attempt("mount", () => program("busybox", "mount", "-t", "tmpfs", "none", "/mnt"));
attempt("unshare", () => program("busybox", "unshare", "-U", "true"));
attempt("see the kernel's files", () => readFileSync("/proc/kallsyms"));
await dial("the system's bus", "/run/dbus/system_bus_socket");
await dial("systemd itself", "/run/systemd/private");
await dial("the network", { host: "127.0.0.1", port: 9 });
console.log(JSON.stringify({ ...outcomes, devices: readdirSync("/dev").sort().join(" ") }));
