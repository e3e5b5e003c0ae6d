import { mkdirSync } from "node:fs";
import { dirname, posix, resolve } from "node:path";
import type { Host } from "../../../src/base/host/host.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { missing } from "../pool-errors.js";
import { checkOwnDirectory } from "../trust.js";

const DIRECTORY_MODE = 0o755;
const WHAT = "the pool directory";

/**
 * Makes the daemon's pool directory where it is missing, part by part, and sees to it that nobody else can make names in it.
 * @throws PvbusError `ERR_PERMISSION` when somebody else can change it or a directory on the way to it, and what making it fails with
 */
export function makeOwnDirectory(host: Host, directory: string): void {
  try {
    make(host, host.sysroot === undefined ? resolve(directory) : posix.resolve("/", directory));
    checkOwnDirectory(host, directory, WHAT);
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot make ${WHAT} ${host.path(directory)}` });
  }
}

function make(host: Host, directory: string): void {
  if (host.files.kind(directory) === "directory") return;
  const parent = dirname(directory);
  if (parent !== directory) make(host, parent);
  // In a directory such as /tmp others may be quicker with the name, but not take ours away.
  checkOwnDirectory(host, parent, WHAT, true);
  using held = host.files.holdName(directory);
  if (held === undefined) throw missing(directory);
  try {
    mkdirSync(held.path, { mode: DIRECTORY_MODE });
  } catch (error) {
    const isThere =
      isSystemError(error) && error.code === "EEXIST" && host.files.kind(directory) === "directory";
    if (!isThere) throw error;
  }
}
