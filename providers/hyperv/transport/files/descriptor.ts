import type nodeFs from "node:fs";
import { type BigIntStats, constants } from "node:fs";
import { dirname } from "node:path";
import { type PvbusError, pvbusError } from "../../../../src/base/errors.js";
import type { HeldName } from "../../../../src/base/host/tree.js";
import { fromSystemError, systemError } from "../../../../src/base/system-error.js";
import { hasCode } from "../pool.js";

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
export interface OpenOptions {
  readonly path: string;
  /** Name of the pool. */
  readonly pool: string;
  /** Holds its name in the directory that it is looked up in, once more for each look; nothing without that directory. */
  readonly hold?: (() => HeldName | undefined) | undefined;
  /** Owners that are trusted: root, this user, the owner of the sysroot. */
  readonly trustedOwners: ReadonlySet<number>;
  /** Take it from group and others. */
  readonly makePrivate: boolean;
  /** Create it when it is missing and is to be written. */
  readonly create: boolean;
}

/** A pool file as its errors name it. */
type NamedPool = Pick<OpenOptions, "path" | "pool">;

/** A pool file, open. */
export interface OpenFile {
  readonly fd: number;
  /** Device and inode. */
  readonly id: string;
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

/** Checks an open file, and takes it from group and others where that is wanted. @returns its id @throws as {@link openPoolFile} */
export function checkPoolFile(
  fs: PoolFs,
  options: OpenOptions,
  { fd, writable }: Pick<OpenFile, "fd" | "writable">,
): string {
  const stats = fs.fstatSync(fd, { bigint: true });
  const refuse = (why: string): never => {
    throw pvbusError("ERR_PERMISSION", `refusing pool ${options.pool}: ${options.path} ${why}`);
  };
  if (!stats.isFile()) throw notAFile(options);
  if (!options.trustedOwners.has(Number(stats.uid)))
    refuse(
      `belongs to user ${stats.uid}, neither root nor this user; find out who put it there, then chown it`,
    );
  if (writable && stats.nlink > 1n)
    refuse("has a second name (hard link); remove the other name before writing");
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

/** Runs an action on the file's name, as the system is to look it up; its failures as ours. */
export function named<T>(doing: string, options: OpenOptions, action: (name: string) => T): T {
  return attempt(doing, options, () => {
    if (options.hold === undefined) return action(options.path);
    using held = options.hold();
    if (held === undefined) throw missing(options.path);
    return action(held.path);
  });
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
  return named(writable ? "open for writing" : "open", options, (name) => {
    // Before it is opened: opening alone sets some devices going.
    const there = fs.lstatSync(name, { bigint: true, throwIfNoEntry: false });
    const isLink = there?.isSymbolicLink() === true;
    if (isLink && NO_NOFOLLOW) throw systemError("ELOOP", "it is a symbolic link", "open", options.path);
    if (there?.isFile() === false && !isLink) throw notAFile(options);
    try {
      return fs.openSync(name, flags);
    } catch (error) {
      if (!writable || !options.create || !hasCode(error, "ENOENT")) throw error;
    }
    try {
      return fs.openSync(name, flags | O_CREAT | O_EXCL, mode);
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
      return fs.openSync(name, flags);
    }
  });
}

/** Maps what the file system threw to our error, with what to do next. */
export function poolError(error: unknown, doing: string, options: NamedPool): unknown {
  if (hasCode(error, "EISDIR")) return notAFile(options);
  return fromSystemError(error, {
    doing: `cannot ${doing} pool ${options.pool}: ${options.path}`,
    advice: {
      ENOENT:
        "the KVP daemon has not made it yet: start it (systemctl start hv-kvp-daemon.service), or allow createPools" +
        ` where ${dirname(options.path)} exists`,
      ELOOP: "it is a symbolic link, which is never followed here; replace it by the file itself",
    },
  });
}

/** The file system's error of what is not there, for a name that was not even asked for. */
export function missing(path: string): NodeJS.ErrnoException {
  return systemError("ENOENT", "no such file or directory", "open", path);
}

/** The error of a pool whose name something else has taken. */
function notAFile({ pool, path }: NamedPool): PvbusError {
  return pvbusError(
    "ERR_CORRUPT",
    `pool ${pool}: ${path} is not a regular file; remove it and restart the KVP daemon`,
  );
}
