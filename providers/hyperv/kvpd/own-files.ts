import { randomBytes } from "node:crypto";
import { mkdirSync, realpathSync } from "node:fs";
import { dirname, posix, resolve } from "node:path";
import { type PvbusError, pvbusError } from "../../../src/base/errors.js";
import type { HostFiles } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { type ForeignHand, foreignHandOn, ourselves } from "../../../src/base/host/ownership.js";
import { type PreparedFile, prepareFile } from "../../../src/base/host/prepared-file.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { missing } from "../transport/files/errors.js";

/*
 * What the daemon alone may change, since it runs with root's rights: directories that it makes names in, files that it
 * writes, programs that it runs.
 */

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
  if (host.sysroot !== undefined) return;
  const foreign = foreignHandOn(resolve(directory), { trusted: ourselves(), sticky });
  if (foreign !== undefined) throw refusal(what, directory, foreign);
}

/**
 * Returns the path by which a program is to be run with the rights of this process: what nobody else can change, as it is
 * started by its name. Below a sysroot too its owner is root or this user; the sysroot's owner is not enough.
 * @returns undefined when it is not there
 * @throws PvbusError `ERR_PERMISSION` when somebody else can change it, or a directory on the way to it
 */
export function ownProgram(host: Host, path: string): string | undefined {
  let name: string;
  let foreign: ForeignHand | undefined;
  try {
    using held = host.files.hold(path);
    if (!held?.stats.isFile()) return undefined;
    name = host.sysroot === undefined ? path : realpathSync.native(held.path);
    foreign = foreignHandOn(name, { trusted: ourselves() });
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
  if (foreign !== undefined) throw refusal("to run", path, foreign);
  return name;
}

function refusal(what: string, path: string, { path: foreign, why }: ForeignHand): PvbusError {
  return pvbusError(
    "ERR_PERMISSION",
    `refusing ${what} ${path}: ${foreign} ${why}, neither root nor this user alone; chown it to root and take writing from` +
      " group and others (chmod go-w), or name another path",
  );
}
