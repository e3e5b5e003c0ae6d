import { randomBytes } from "node:crypto";
import { mkdirSync, realpathSync } from "node:fs";
import { dirname, posix, resolve } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import type { HostFiles } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { foreignHandOn, ourselves } from "../../../src/base/host/ownership.js";
import { type PreparedFile, prepareFile } from "../../../src/base/host/prepared-file.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { missing } from "../transport/files/descriptor.js";
import { hasCode } from "../transport/pool.js";

/*
 * The daemon's way to the machine's files: what it reads, and what it alone may change, since it runs with root's rights: directories
 * that it makes names in, files that it writes, programs that it runs.
 */

const WHAT = "the pool directory";

/** Returns the text of a file of the system; undefined where it is absent, gone in the meantime, or not ours to read. */
export function textOf({ files }: Host, path: string, longest: number): string | undefined {
  try {
    return files.read(path, longest)?.toString("utf8");
  } catch {
    return undefined;
  }
}

/** Returns the names in a directory of the system; none where it is not ours to look into. */
export function namesIn({ files }: Host, directory: string): string[] {
  try {
    return files.names(directory);
  } catch {
    return [];
  }
}

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
    mkdirSync(held.path, { mode: 0o755 });
  } catch (error) {
    if (!hasCode(error, "EEXIST") || host.files.kind(directory) !== "directory") throw error;
  }
}

/**
 * Puts a file in place whole or not at all, readable by its owner alone: written beside it, brought to the disk, renamed.
 * A link of its name is replaced, never followed. The directory is to be one in which nobody else can make names.
 */
export async function writeWhole(files: HostFiles, path: string, text: string): Promise<void> {
  using held = files.holdName(path);
  if (held === undefined) throw missing(path);
  let file: PreparedFile | undefined;
  try {
    file = await prepareFile(held.path, `${held.path}.${randomBytes(6).toString("hex")}`, text);
    await file.place();
  } catch (error) {
    await file?.discard();
    throw error;
  }
}

/**
 * Refuses a directory of the live machine in which somebody else than root and this user can give the names that are about to be
 * used to something else. Below a sysroot every name is held instead, and the tree may be anybody's.
 * @throws PvbusError `ERR_PERMISSION`; the file system's error when there is no such directory
 */
export function checkOwnDirectory(host: Host, directory: string, what: string, sticky = false): void {
  if (host.sysroot === undefined) refuseForeign(`${what} ${directory}`, resolve(directory), sticky);
}

/**
 * Returns the path by which a program is to be run with the rights of this process: what nobody else can change, as it is
 * started by its name. Below a sysroot too its owner is root or this user; the sysroot's owner is not enough.
 * @returns undefined when it is not there
 * @throws PvbusError `ERR_PERMISSION` when somebody else can change it, or a directory on the way to it
 */
export function ownProgram(host: Host, path: string): string | undefined {
  try {
    using held = host.files.hold(path);
    if (!held?.stats.isFile()) return undefined;
    const name = host.sysroot === undefined ? path : realpathSync.native(held.path);
    refuseForeign(`to run ${path}`, name);
    return name;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
}

function refuseForeign(what: string, path: string, sticky?: boolean): void {
  const foreign = foreignHandOn(path, { trusted: ourselves(), sticky });
  if (foreign === undefined) return;
  throw pvbusError(
    "ERR_PERMISSION",
    `refusing ${what}: ${foreign.path} ${foreign.why}, neither root nor this user alone; chown it to root and take writing from` +
      " group and others (chmod go-w), or name another path",
  );
}
