import { constants } from "node:fs";
import { copyFile, link, lstat, open, readdir, readFile, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fromSystemError } from "../../../src/base/system-error.js";
import { decodeLog, LOG_END, LOG_HEADER, type LogGap, type LogHeader, recordBytes } from "./log-codec.js";

/*
 * What lies beside a log: a note of where it ended, by which a file that was cut later is known, and copies of damaged ones.
 */

/** The shortest record: so many changes a stretch of a log can have held. */
const LEAST_RECORD_BYTES = recordBytes("k", new Uint8Array());
/** What follows the name of a log in that of a damaged one that was kept. */
const KEPT = ".damaged-";
const END = ".end";
/** A file system without links to files says one of these. */
const NO_LINKS: readonly unknown[] = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"];

/** What a damaged log has lost. */
export interface LogDamage {
  readonly lost: readonly LogGap[];
  /** Name of the file beside the log that holds all of it as it was found. */
  readonly kept: string;
}

export async function keptBeside(path: string): Promise<string[]> {
  const front = `${basename(path)}${KEPT}`;
  const names = await readdir(dirname(path));
  return names.filter((name) => name.startsWith(front) && !name.endsWith(END)).sort();
}

/** Returns what a damaged log that was kept has lost; nothing where that cannot be told from it. */
export async function lossOf(path: string): Promise<readonly LogGap[]> {
  const bytes = await readIfThere(path);
  const header = bytes && LOG_HEADER.decode(bytes);
  return header === undefined ? [] : decodeLog(bytes as Buffer, header, await endOf(path, header)).lost;
}

export async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path, { flag: constants.O_RDONLY | constants.O_NOFOLLOW });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw failure(path, error);
  }
}

/** Returns what is known to have been on the disk: what the file was made with, and what it held when it was closed last. */
export async function endOf(path: string, header: LogHeader): Promise<LogHeader> {
  // A note that cannot be read says nothing.
  const bytes = await readIfThere(endPath(path)).catch(() => undefined);
  const end = bytes && LOG_END.decode(bytes);
  return end !== undefined && Buffer.from(header.mark).equals(end.mark) ? end : header;
}

/** Notes where a log ended. A note that is lost or half there says nothing, so nobody waits for the disk. */
export async function writeEnd(path: string, end: Buffer): Promise<void> {
  try {
    // A new file: the old one may be kept with a damaged log.
    await rm(endPath(path), { force: true });
    await using file = await open(endPath(path), "wx", 0o600);
    await file.write(end, 0, end.length, 0);
  } catch {
    // On a full disk, for one.
  }
}

function endPath(path: string): string {
  return `${path}${END}`;
}

/** Returns how many changes a damaged log may have held behind those whose numbers are known: none of them comes again. */
export function unknownChanges(lost: readonly LogGap[]): number {
  let bytes = 0;
  for (const gap of lost) if (gap.revisions === undefined) bytes += gap.bytes;
  return Math.ceil(bytes / LEAST_RECORD_BYTES);
}

/** Keeps a log in its directory under a name that was free. @returns the name */
export async function keepDamaged(path: string): Promise<string> {
  const directory = dirname(path);
  try {
    const { dev, ino } = await lstat(path);
    for (const name of await keptBeside(path)) {
      const other = await lstat(join(directory, name));
      // A run that ended before the log was replaced.
      if (other.dev === dev && other.ino === ino) return name;
    }
    const kept = await linkFree(
      path,
      `${basename(path)}${KEPT}${new Date().toISOString().replaceAll(":", "-")}`,
    );
    // With it what is missing at the end is known from the copy too.
    await link(endPath(path), endPath(join(directory, kept))).catch(() => undefined);
    await syncDirectory(directory);
    return kept;
  } catch (error) {
    throw failure(path, error);
  }
}

/** Returns a file one more name, or a copy: one that exists is never replaced. */
async function linkFree(path: string, name: string): Promise<string> {
  for (let count = 1; ; count++) {
    const free = count === 1 ? name : `${name}-${count}`;
    const other = join(dirname(path), free);
    try {
      await link(path, other).catch((error: NodeJS.ErrnoException) => {
        if (!NO_LINKS.includes(error.code)) throw error;
        return copyFile(path, other, constants.COPYFILE_EXCL);
      });
      return free;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await directory.sync();
}

export function failure(path: string, error: unknown): unknown {
  return fromSystemError(error, { doing: `cannot keep the state in ${path}` });
}
