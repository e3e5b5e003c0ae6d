import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { debianTree } from "./debian-packages.js";

/*
 * VMware's own tools as Debian packs them, unpacked without being installed. They need libglib2.0-0 and, where it is not
 * there, bring libtirpc3 along.
 */
const PACKAGES = ["open-vm-tools", "libtirpc3"];

/** The unpacked tools. */
export interface OpenVmTools {
  /** Returns the path of one of them: `vmware-rpctool`. */
  program(name: string): string;
  /** Path of VMware's library. */
  readonly library: string;
  /** Environment in which they find their libraries. */
  readonly env: NodeJS.ProcessEnv;
}

let outcome: OpenVmTools | { readonly why: string } | undefined;

/** Returns the tools, or why there are none; fetches them on the first call. */
export function openVmTools(): OpenVmTools | { readonly why: string } {
  outcome ??= find();
  return outcome;
}

function find(): OpenVmTools | { readonly why: string } {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { why: "they are for x86-64 Linux here" };
  let directory: string;
  try {
    directory = debianTree("open-vm-tools", PACKAGES).directory;
  } catch (error) {
    return { why: (error as Error).message };
  }
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
