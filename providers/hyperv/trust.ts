import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import { type PvbusError, pvbusError } from "../../src/base/errors.js";
import type { Host } from "../../src/base/host/host.js";
import { type ForeignHand, foreignHandOn, ourselves } from "../../src/base/host/ownership.js";
import { isSystemError } from "../../src/base/system-error.js";

/** Returns the owners whose files are taken: root, this user, and below a sysroot whoever owns that. */
export function trustedOwners(host: Host): ReadonlySet<number> {
  const owners = new Set([0]);
  if (host.uid !== undefined) owners.add(host.uid);
  if (host.sysroot === undefined) return owners;
  try {
    using top = host.files.hold("/");
    if (top !== undefined) owners.add(top.stats.uid);
  } catch (error) {
    // A sysroot that is not there owns nothing.
    if (!isSystemError(error)) throw error;
  }
  return owners;
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

function refusal(what: string, path: string, { path: place, why }: ForeignHand): PvbusError {
  return pvbusError(
    "ERR_PERMISSION",
    `refusing ${what} ${path}: ${place} ${why}, neither root nor this user alone; chown it to root and take writing from` +
      " group and others (chmod go-w), or name another place",
  );
}
