import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ROOT } from "../pools.js";

/*
 * Debian's Xen 4.17 userland, unpacked without being installed: installing it would pull in udev. As a program,
 * `node dist/test/support/xen/packages.js` fetches it and prints its directory.
 */

const PACKAGES = [
  "xen-utils-4.17",
  "xenstore-utils",
  "libxen-dev",
  "libxenstore4",
  "libxenmisc4.17",
  "libxentoollog1",
  "libxentoolcore1",
  "libxenevtchn1",
  "libxengnttab1",
  "libxencall1",
  "libxenforeignmemory1",
  "libxendevicemodel1",
  "libxenhypfs1",
];
const CACHE = join(ROOT, ".lab-cache");
const FETCH_MS = 180_000;

let outcome: { readonly directory: string } | { readonly why: string } | undefined;

/** Gives the directory of the unpacked packages, or why there is none; fetches them on the first call. */
export function xenPackages(): { readonly directory: string } | { readonly why: string } {
  outcome ??= fetched();
  return outcome;
}

function fetched(): { readonly directory: string } | { readonly why: string } {
  const directory = join(CACHE, "xen-4.17");
  if (existsSync(directory)) return { directory };
  if (process.platform !== "linux" || process.arch !== "x64")
    return { why: "Debian's Xen is for x86-64 Linux" };
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, "xen-"));
  try {
    const fetch = (): string | undefined => run("apt-get", ["download", "-qq", ...PACKAGES], work);
    let download = fetch();
    // A fresh machine has no list of packages yet.
    if (download !== undefined && run("apt-get", ["update", "-qq"], work) === undefined) download = fetch();
    if (download !== undefined)
      return { why: `apt-get download of ${PACKAGES[0]} and others failed: ${download}` };
    for (const file of readdirSync(work).filter((name) => name.endsWith(".deb"))) {
      const unpacked = run("dpkg-deb", ["-x", file, "root"], work);
      if (unpacked !== undefined) return { why: `dpkg-deb -x ${file} failed: ${unpacked}` };
    }
    // Another run may have been faster.
    if (!existsSync(directory)) renameSync(join(work, "root"), directory);
    return { directory };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Runs a program; gives what went wrong. */
function run(command: string, args: readonly string[], cwd: string): string | undefined {
  const { status, error, stderr } = spawnSync(command, args, { cwd, encoding: "utf8", timeout: FETCH_MS });
  return status === 0 ? undefined : (error?.message ?? stderr.trim().split("\n").at(-1) ?? "");
}

/** Gives the environment in which the unpacked programs find their libraries. */
export function xenEnvironment(directory: string): NodeJS.ProcessEnv {
  return { ...process.env, LD_LIBRARY_PATH: join(directory, "usr/lib/x86_64-linux-gnu") };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const got = xenPackages();
  console.log("directory" in got ? got.directory : got.why);
  process.exitCode = "directory" in got ? 0 : 1;
}
