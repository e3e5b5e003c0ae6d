import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { debianTree } from "../debian-packages.js";

/*
 * Debian's Xen 4.17 userland, unpacked without being installed: installing it would pull in udev. As a program,
 * `node dist/test/support/xen/packages.js` fetches it and prints its directory.
 */

/** Xen's daemons and tools with their libraries; the lab's machines have them too. */
export const XEN_PACKAGES = [
  "xen-utils-4.17",
  "xen-utils-common",
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
  "libyajl2",
];

let outcome: { readonly directory: string } | { readonly why: string } | undefined;

/** Returns the directory of the unpacked packages, or why there is none; fetches them on the first call. */
export function xenPackages(): { readonly directory: string } | { readonly why: string } {
  outcome ??= fetched();
  return outcome;
}

function fetched(): { readonly directory: string } | { readonly why: string } {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { why: "Debian's Xen is for x86-64 Linux" };
  try {
    return { directory: debianTree("xen", XEN_PACKAGES).directory };
  } catch (error) {
    return { why: (error as Error).message };
  }
}

/** Returns the environment in which the unpacked programs find their libraries. */
export function xenEnvironment(directory: string): NodeJS.ProcessEnv {
  return { ...process.env, LD_LIBRARY_PATH: join(directory, "usr/lib/x86_64-linux-gnu") };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const got = xenPackages();
  console.log("directory" in got ? got.directory : got.why);
  process.exitCode = "directory" in got ? 0 : 1;
}
