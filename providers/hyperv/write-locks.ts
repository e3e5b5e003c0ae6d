import nodeFs from "node:fs";

/** What this module needs of the file system. */
export type LocksFs = Pick<typeof nodeFs, "readFileSync">;

/**
 * Tells whether somebody holds a write lock on an inode, by Linux's /proc/locks. The device is left out of the
 * comparison, since stacked file systems show another one there: a lock on a like-numbered inode elsewhere only costs
 * the slower way.
 * @returns undefined where the system does not tell
 */
export function isWriteLocked(
  inode: string,
  platform: NodeJS.Platform,
  fs: LocksFs = nodeFs,
): boolean | undefined {
  if (platform !== "linux") return undefined;
  try {
    return new RegExp(`WRITE\\s+\\S+\\s+\\S+:${inode}\\s`).test(fs.readFileSync("/proc/locks", "latin1"));
  } catch {
    // Not mounted or hidden: then nobody knows, and the reader takes a lock.
    return undefined;
  }
}
