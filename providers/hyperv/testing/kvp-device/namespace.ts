import { spawnSync } from "node:child_process";
import fs, { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

/*
 * Run in a mount namespace of its own: makes /dev/vmbus and /var/lib/hyperv private, whether the machine has them or
 * not, without a trace outside.
 */

/** Runs mount(8). @param descriptor what it has as its number 3 */
export function mount(args: readonly string[], ...descriptor: number[]): void {
  const { status, stderr, error } = spawnSync("mount", args, {
    // No "ignore": while /dev is being made there is no /dev/null.
    stdio: ["pipe", "pipe", "pipe", ...descriptor],
    encoding: "utf8",
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`mount ${args.join(" ")}: ${stderr.trim()}`);
}

/** Puts an empty directory tree over a path that shows all its former entries, and a further directory. */
function widen(path: string, name: string, staging: string): void {
  mkdirSync(staging);
  mount(["--rbind", path, staging]);
  mount(["-t", "tmpfs", "-o", "mode=755", "tmpfs", path]);
  for (const entry of fs.readdirSync(staging)) {
    const [from, to] = [join(staging, entry), join(path, entry)];
    const stats = fs.lstatSync(from);
    if (stats.isSymbolicLink()) fs.symlinkSync(fs.readlinkSync(from), to);
    else if (stats.isDirectory()) {
      mkdirSync(to);
      mount(["--rbind", from, to]);
    } else {
      fs.writeFileSync(to, "");
      mount(["--bind", from, to]);
    }
  }
  mkdirSync(join(path, name));
}

/** Prepares the directories: /dev/vmbus an empty directory, /var/lib/hyperv the given one. */
export function prepareDirectories(pools: string): void {
  // Seen from this namespace alone: /run is shared, but the mount on it is not.
  mount(["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/mnt"]);
  mkdirSync("/mnt/pools");
  mount(["--bind", pools, "/mnt/pools"]);
  if (!existsSync("/dev/vmbus")) widen("/dev", "vmbus", "/mnt/dev");
  if (!existsSync("/var/lib/hyperv")) widen("/var/lib", "hyperv", "/mnt/lib");
  mount(["--bind", "/mnt/pools", "/var/lib/hyperv"]);
}
