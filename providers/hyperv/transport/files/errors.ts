import { dirname } from "node:path";
import { type PvbusError, pvbusError } from "../../../../src/base/errors.js";
import { fromSystemError, isSystemError, systemError } from "../../../../src/base/system-error.js";

/** A pool file as its errors name it. */
export interface NamedPool {
  /** Where it is. */
  readonly path: string;
  /** Name of the pool. */
  readonly pool: string;
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

/** The file system's error of what is not there, for a name that was not even asked for. */
export function missing(path: string): NodeJS.ErrnoException {
  return systemError("ENOENT", "no such file or directory", "open", path);
}

/** The file system's error of a link that O_NOFOLLOW meets, for systems without it. */
export function linkError(path: string): NodeJS.ErrnoException {
  return systemError("ELOOP", "it is a symbolic link", "open", path);
}

/** The error of a pool whose name something else has taken. */
export function notAFile({ pool, path }: NamedPool): PvbusError {
  return pvbusError(
    "ERR_CORRUPT",
    `pool ${pool}: ${path} is not a regular file; remove it and restart the KVP daemon`,
  );
}
