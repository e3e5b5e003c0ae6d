import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./pools.js";

/*
 * VMware's own tools as Debian packs them, unpacked without being installed. They need libglib2.0-0 and, where it is not
 * there, bring libtirpc3 along.
 */
const PACKAGES = ["open-vm-tools", "libtirpc3"];
const CACHE = join(ROOT, ".lab-cache");
const FETCH_MS = 180_000;

/** The unpacked tools. */
export interface OpenVmTools {
  /** Gives the path of one of them: `vmware-rpctool`. */
  program(name: string): string;
  /** Path of VMware's library. */
  readonly library: string;
  /** Environment in which they find their libraries. */
  readonly env: NodeJS.ProcessEnv;
}

let outcome: OpenVmTools | { readonly why: string } | undefined;

/** Gives the tools, or why there are none; fetches them on the first call. */
export function openVmTools(): OpenVmTools | { readonly why: string } {
  outcome ??= find();
  return outcome;
}

function find(): OpenVmTools | { readonly why: string } {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { why: "they are for x86-64 Linux here" };
  const directory = join(CACHE, "open-vm-tools");
  const why = existsSync(directory) ? undefined : fetchInto(directory);
  if (why !== undefined) return { why };
  const libraries = join(directory, "usr/lib/x86_64-linux-gnu");
  const tools: OpenVmTools = {
    program: (name) => join(directory, "usr/bin", name),
    library: join(libraries, "libvmtools.so.0"),
    env: { ...process.env, LD_LIBRARY_PATH: `${libraries}:${join(directory, "lib/x86_64-linux-gnu")}` },
  };
  const linked =
    spawnSync("ldd", [tools.program("vmtoolsd")], { encoding: "utf8", env: tools.env }).stdout ?? "";
  const missing = /^\s*(\S+) => not found/m.exec(linked)?.[1];
  return missing === undefined ? tools : { why: `${missing} is missing (apt-get install libglib2.0-0)` };
}

function fetchInto(directory: string): string | undefined {
  mkdirSync(CACHE, { recursive: true });
  const work = mkdtempSync(join(CACHE, "open-vm-tools-"));
  try {
    const download = run("apt-get", ["download", "-qq", ...PACKAGES], work);
    if (download !== undefined) return `apt-get download open-vm-tools failed: ${download}`;
    for (const file of readdirSync(work).filter((name) => name.endsWith(".deb"))) {
      const unpacked = run("dpkg-deb", ["-x", file, "root"], work);
      if (unpacked !== undefined) return `dpkg-deb -x ${file} failed: ${unpacked}`;
    }
    // Another run may have been faster.
    if (!existsSync(directory)) renameSync(join(work, "root"), directory);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function run(command: string, args: readonly string[], cwd: string): string | undefined {
  const { status, error, stderr } = spawnSync(command, args, { cwd, encoding: "utf8", timeout: FETCH_MS });
  return status === 0 ? undefined : (error?.message ?? stderr.trim().split("\n").at(-1) ?? "");
}
