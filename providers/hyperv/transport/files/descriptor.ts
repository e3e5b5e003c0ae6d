import type nodeFs from "node:fs";
import { type BigIntStats, constants } from "node:fs";
import { type PvbusError, pvbusError } from "../../../../src/base/errors.js";
import type { HeldName } from "../../../../src/base/host/tree.js";
import { isSystemError } from "../../../../src/base/system-error.js";
import { linkError, missing, type NamedPool, notAFile, poolError } from "./errors.js";

/** What a pool file needs of the file system; a test hands in one with faults. */
export type PoolFs = Pick<
  typeof nodeFs,
  | "openSync"
  | "closeSync"
  | "lstatSync"
  | "fstatSync"
  | "readSync"
  | "writeSync"
  | "ftruncateSync"
  | "fchmodSync"
  | "fsync"
>;

/** Which file to open, and on what conditions. */
export interface OpenOptions extends NamedPool {
  /** Holds its name in the directory that it is looked up in, once more for each look; nothing without that directory. */
  readonly hold?: (() => HeldName | undefined) | undefined;
  /** Owners that are trusted: root, this user, the owner of the sysroot. */
  readonly trustedOwners: ReadonlySet<number>;
  /** Take it from group and others. */
  readonly makePrivate: boolean;
  /** Create it when it is missing and is to be written. */
  readonly create: boolean;
}

/** A pool file, open. */
export interface OpenFile {
  /** Its number. */
  readonly fd: number;
  /** Device and inode. */
  readonly id: string;
  /** Whether it can be written through it. */
  readonly writable: boolean;
}

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = constants;
// Both are absent on Windows, where pools are not files. O_NONBLOCK: a FIFO under a pool's name must not hang the open.
const NO_NOFOLLOW = constants.O_NOFOLLOW === undefined;
const SAFE_FLAGS = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);

/**
 * Opens a pool file without following links, and checks it before anything is read from it or written to it.
 * @throws PvbusError `ERR_UNAVAILABLE` when it is missing, `ERR_CORRUPT` when it is no regular file, `ERR_PERMISSION` for a
 *   foreign owner or, for writing, a second name
 */
export function openPoolFile(fs: PoolFs, options: OpenOptions, writable: boolean): OpenFile {
  const fd = openByName(fs, options, writable);
  try {
    const id = checkPoolFile(fs, options, { fd, writable });
    return { fd, id, writable };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/**
 * Checks an open file, and takes it from group and others where that is wanted.
 * @returns its id
 * @throws PvbusError as {@link openPoolFile}
 */
export function checkPoolFile(
  fs: PoolFs,
  options: OpenOptions,
  { fd, writable }: Pick<OpenFile, "fd" | "writable">,
): string {
  const stats = fs.fstatSync(fd, { bigint: true });
  const refuse = (why: string): PvbusError =>
    pvbusError("ERR_PERMISSION", `refusing pool ${options.pool}: ${options.path} ${why}`);
  if (!stats.isFile()) throw notAFile(options);
  if (!options.trustedOwners.has(Number(stats.uid))) {
    throw refuse(
      `belongs to user ${stats.uid}, neither root nor this user; find out who put it there, then chown it`,
    );
  }
  if (writable && stats.nlink > 1n) {
    throw refuse("has a second name (hard link); remove the other name before writing");
  }
  // A second name may be somebody else's file.
  if (options.makePrivate && stats.nlink === 1n && (Number(stats.mode) & 0o077) !== 0) {
    attempt("make private", options, () => fs.fchmodSync(fd, 0o600));
  }
  return idOf(stats);
}

/** Returns what tells files apart. */
export function idOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

/** Runs an action on the file's name, as the system is to look it up. */
export function named<T>({ hold, path }: OpenOptions, action: (name: string) => T): T {
  if (hold === undefined) return action(path);
  const held = hold();
  if (held === undefined) throw missing(path);
  try {
    return action(held.path);
  } finally {
    held[Symbol.dispose]();
  }
}

/** Runs an action, its failures as ours. */
export function attempt<T>(doing: string, pool: NamedPool, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw poolError(error, doing, pool);
  }
}

function openByName(fs: PoolFs, options: OpenOptions, writable: boolean): number {
  const flags = (writable ? O_RDWR : O_RDONLY) | SAFE_FLAGS;
  const mode = options.makePrivate ? 0o600 : 0o644;
  return attempt(writable ? "open for writing" : "open", options, () =>
    named(options, (name) => {
      // Before it is opened: opening alone sets some devices going.
      const there = fs.lstatSync(name, { bigint: true, throwIfNoEntry: false });
      if (there?.isSymbolicLink() && NO_NOFOLLOW) throw linkError(options.path);
      if (there !== undefined && !there.isFile() && !there.isSymbolicLink()) throw notAFile(options);
      try {
        return fs.openSync(name, flags);
      } catch (error) {
        if (!(writable && options.create && isSystemError(error) && error.code === "ENOENT")) throw error;
        try {
          return fs.openSync(name, flags | O_CREAT | O_EXCL, mode);
        } catch (second) {
          if (isSystemError(second) && second.code === "EEXIST") return fs.openSync(name, flags);
          throw second;
        }
      }
    }),
  );
}
