import { readFileSync, readlinkSync } from "node:fs";
import { Call } from "../../src/index.js";

const LONGEST_MS = 20_000;

/** Resolves with what a look gives as soon as it gives something. */
export async function eventually<T>(look: () => T | undefined): Promise<T> {
  const call = new Call({ timeoutMs: LONGEST_MS });
  for (;;) {
    const found = look();
    if (found !== undefined) return found;
    await call.sleep(5, String(look));
  }
}

/** Returns the children of a process's first thread. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .trim()
      .split(" ")
      .filter(Boolean)
      .map(Number);
  } catch {
    return [];
  }
}

/** Returns the helper of a process that has the file open, once it is a program of its own. */
export function helperOf(pid: number, path: string): number | undefined {
  return childrenOf(pid).find((child) => {
    try {
      const isOwn = readFileSync(`/proc/${child}/cmdline`, "utf8").split("\0")[1] === "-e";
      return isOwn && readlinkSync(`/proc/${child}/fd/3`) === path;
    } catch {
      return false;
    }
  });
}

/** Tells of a process that waits in the kernel for a lock of the file. */
export function isWaiting(pid: number): true | undefined {
  // flock(2) and fcntl(2) with F_OFD_SETLKW, on x64 and arm64.
  const syscall = readFileSync(`/proc/${pid}/syscall`, "utf8").split(" ");
  const [lock, command] = process.arch === "arm64" ? ["32", "25"] : ["73", "72"];
  return syscall[0] === lock || (syscall[0] === command && Number(syscall[2]) === 38) ? true : undefined;
}
