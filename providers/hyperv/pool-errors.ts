import type { BigIntStats } from "node:fs";
import { dirname } from "node:path";
import { PvbusError, pvbusError } from "../../src/base/errors.js";
import { fromSystemError, isSystemError } from "../../src/base/system-error.js";

/** A pool file as its errors name it. */
export interface NamedPool {
  /** Where it is. */
  readonly path: string;
  /** Name of the pool. */
  readonly pool: string;
}

/**
 * Checks an open pool file before anything is read from it or written to it.
 * @throws PvbusError `ERR_CORRUPT` when it is no regular file, `ERR_PERMISSION` for a foreign owner or, for writing, a
 * second name
 */
export function checkPoolFile(
  stats: BigIntStats,
  options: NamedPool & { readonly trustedOwners: ReadonlySet<number> },
  writable: boolean,
): void {
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
}

/** Maps what the file system threw to our error, with what to do next. */
export function poolError(error: unknown, doing: string, options: NamedPool): unknown {
  if (isSystemError(error) && error.code === "EISDIR") return notAFile(options);
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

/** Reports whether an error says that a pool file is not there. */
export function isMissing(error: unknown): boolean {
  return PvbusError.is(error) && isSystemError(error.cause) && error.cause.code === "ENOENT";
}

/** The file system's error of what is not there, for a name that was not even asked for. */
export function missing(path: string): NodeJS.ErrnoException {
  return openError("ENOENT", "no such file or directory", path);
}

/** The file system's error of a link that O_NOFOLLOW meets, for systems without it. */
export function linkError(path: string): NodeJS.ErrnoException {
  return openError("ELOOP", "it is a symbolic link", path);
}

function openError(code: string, what: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${what}, open '${path}'`), { code, syscall: "open", path });
}

/** The error of a pool whose place something else has taken. */
export function notAFile({ pool, path }: NamedPool): PvbusError {
  return pvbusError(
    "ERR_CORRUPT",
    `pool ${pool}: ${path} is not a regular file; remove it and restart the KVP daemon`,
  );
}
