import { constants, mkdirSync } from "node:fs";
import { type FileHandle, lstat, open, readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pvbusError } from "../../../src/bus/errors.js";
import { fromSystemError, isSystemError } from "../../../src/bus/system-error.js";
import { foreignHandOn, ourselves } from "../../../src/host/ownership.js";
import { type FileLock, tryLockFile } from "../../../src/native/file-lock.js";
import { GuestState } from "./guest-state.js";
import { ADMINISTRATOR_LIMITS } from "./limits.js";
import { syncDirectory } from "./log-file.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const PRIVATE = 0o700;

/**
 * Checks a guest's name, which becomes a directory's.
 * @throws TypeError
 */
export function checkGuestName(name: string): string {
  if (NAME.test(name)) return name;
  throw new TypeError(
    `'${name}' is no guest name; write up to 64 letters, digits, dots, dashes and underscores, the first one a letter or digit`,
  );
}

/** Gives the place of the socket by which a running host takes orders. */
export function controlPath(directory: string): string {
  return join(resolve(directory), "control.sock");
}

/**
 * Checks that nobody but root and this process's user can change a directory of keys, or put another in its place: all that is done
 * there goes by names, and is safe for that reason alone.
 * @throws PvbusError `ERR_PERMISSION`; the system's error when it is not there
 */
export function checkOurs(path: string): void {
  refuseOthers(path, false);
}

/** @param sticky whether a directory will do in which all may make names, but not take ours */
function refuseOthers(path: string, sticky: boolean): void {
  const hand = foreignHandOn(path, { trusted: ourselves(), sticky });
  if (hand === undefined) return;
  const rule = "keys are kept where only root and this user can change anything";
  const advice = `chown it, take the others' right away (chmod go-w ${hand.path}), or run as its user`;
  throw pvbusError("ERR_PERMISSION", `${hand.path} ${hand.why}; ${rule}: ${advice}`);
}

/** Makes a directory, and those on the way to it, where there is none; nothing is made where somebody else could move it. */
function makeOurs(path: string, sticky = false): void {
  try {
    refuseOthers(path, sticky);
  } catch (error) {
    if (!isSystemError(error) || error.code !== "ENOENT") throw error;
    makeOurs(dirname(path), true);
    mkdirSync(path, { mode: PRIVATE });
    refuseOthers(path, sticky);
  }
}

/**
 * The directory that holds the keys of all guests: `guests/NAME/log` for each, and `lock`, which whoever works in it holds.
 */
export class StateDirectory {
  /** Absolute path. */
  readonly path: string;
  readonly #file: FileHandle;
  readonly #lock: FileLock;
  readonly #guests = new Map<string, Promise<GuestState>>();

  private constructor(path: string, file: FileHandle, lock: FileLock) {
    this.path = path;
    this.#file = file;
    this.#lock = lock;
  }

  /**
   * Opens a state directory, making it where there is none, and keeps others out until it is closed.
   * @returns undefined while another process works in it
   * @throws PvbusError `ERR_PERMISSION`, also where anybody else could change it; `ERR_UNAVAILABLE` without native calls
   */
  static async tryOpen(directory: string): Promise<StateDirectory | undefined> {
    const path = resolve(directory);
    let file: FileHandle | undefined;
    try {
      makeOurs(path);
      makeOurs(join(path, "guests"));
      file = await open(
        join(path, "lock"),
        constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
        0o600,
      );
      const lock = tryLockFile(file.fd, { mode: "exclusive" });
      if (lock !== undefined) return new StateDirectory(path, file, lock);
      await file.close();
      return undefined;
    } catch (error) {
      await file?.close();
      throw fromSystemError(error, { doing: `cannot use the state directory ${path}` });
    }
  }

  /** Gives the names of the guests that have a state. */
  async guests(): Promise<string[]> {
    return (await readdir(join(this.path, "guests"))).filter((name) => NAME.test(name)).sort();
  }

  /**
   * Gives a guest's state, opened once.
   * @param create whether a guest without a state gets one
   * @throws PvbusError `ERR_UNAVAILABLE` when there is none and none is to be made, `ERR_CORRUPT` for a damaged log
   * @throws TypeError for a name that is none
   */
  async guest(name: string, { create }: { readonly create: boolean }): Promise<GuestState> {
    checkGuestName(name);
    let state = this.#guests.get(name);
    if (state === undefined) {
      const opening = this.#open(name, create);
      state = opening;
      this.#guests.set(name, opening);
      // A failure is not for ever: the administrator may repair the file while the others are served.
      opening.catch(() => this.#guests.delete(name));
    }
    return state;
  }

  /** Waits for the writes under way and gives the directory back. */
  async close(): Promise<void> {
    const states = await Promise.allSettled(this.#guests.values());
    for (const state of states) if (state.status === "fulfilled") await state.value.close();
    this.#lock.release();
    await this.#file.close();
  }

  async #open(name: string, create: boolean): Promise<GuestState> {
    const directory = join(this.path, "guests", name);
    try {
      if (create && !(await exists(directory))) {
        makeOurs(directory);
        await syncDirectory(dirname(directory));
      }
      checkOurs(directory);
    } catch (error) {
      if (!isSystemError(error) || error.code !== "ENOENT")
        throw fromSystemError(error, { doing: `cannot use ${directory}` });
      const known = (await this.guests()).join(", ") || "none";
      throw pvbusError("ERR_UNAVAILABLE", `there is no guest '${name}' in ${this.path}; guests: ${known}`);
    }
    return GuestState.open(join(directory, "log"), ADMINISTRATOR_LIMITS);
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return false;
    throw error;
  }
}
