import { constants, lstatSync, mkdirSync } from "node:fs";
import { type FileHandle, open, readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { foreignHandOn, ourselves } from "../../../src/base/host/ownership.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { type FileLock, tryLockFile } from "../../../src/native/posix/file-lock.js";
import { GuestState } from "./guest-state.js";
import { keptBeside, lossOf, syncDirectory } from "./kept-logs.js";
import { ADMINISTRATOR_LIMITS } from "./limits.js";
import type { LogGap } from "./log-codec.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const PRIVATE = 0o700;

/** Checks a guest's name, which becomes a directory's. @throws TypeError */
export function checkGuestName(name: string): string {
  if (NAME.test(name)) return name;
  throw new TypeError(
    `'${name}' is no guest name; write up to 64 letters, digits, dots, dashes and underscores, the first one a letter or digit`,
  );
}

/** What is wrong with the log of one guest. */
export interface GuestDamage {
  /** Its name. */
  readonly guest: string;
  /** What, and what to do about it. */
  readonly message: string;
}

type OpenedListener = (guest: string, state: GuestState) => void;

export function lossText(lost: readonly LogGap[]): string {
  const parts = lost.map(({ offset, bytes, revisions }) => {
    const { first, last } = revisions ?? {};
    const changes = first === last ? `change ${first}` : `changes ${first} to ${last}`;
    return `${bytes} bytes at offset ${offset}${first === undefined ? "" : ` (${changes})`}`;
  });
  return parts.join(", ");
}

export function controlPath(directory: string): string {
  return join(resolve(directory), "control.sock");
}

/**
 * Checks that nobody but root and this process's user can change a directory of keys, or put another in its place: all that is done
 * there goes by names, and is safe for that reason alone.
 * @param sticky whether a directory will do in which all may make names, but not take ours
 * @throws PvbusError `ERR_PERMISSION`; the system's error when it is not there
 */
export function checkOurs(path: string, sticky = false): void {
  const hand = foreignHandOn(path, { trusted: ourselves(), sticky });
  if (hand === undefined) return;
  const rule = "keys are kept where only root and this user can change anything";
  const advice = `chown it, take the others' right away (chmod go-w ${hand.path}), or run as its user`;
  throw pvbusError("ERR_PERMISSION", `${hand.path} ${hand.why}; ${rule}: ${advice}`);
}

/** Two names of one log would have two writers. @throws PvbusError `ERR_PERMISSION`; the system's error when it is not there */
function refuseLink(path: string): void {
  if (lstatSync(path).isDirectory()) return;
  const advice = "move the directory here, or mount it here";
  throw pvbusError("ERR_PERMISSION", `${path} is no directory, or a link to one; ${advice}`);
}

/** Makes a directory, and those on the way to it, where there is none; nothing is made where somebody else could move it. */
function makeOurs(path: string, sticky = false): void {
  try {
    checkOurs(path, sticky);
  } catch (error) {
    if (!isSystemError(error) || error.code !== "ENOENT") throw error;
    makeOurs(dirname(path), true);
    mkdirSync(path, { mode: PRIVATE });
    checkOurs(path, sticky);
  }
}

/** The keys of all guests: `guests/NAME/log` for each, and `lock`, which whoever works in it holds. */
export class StateDirectory {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #lock: FileLock;
  readonly #onOpened: OpenedListener;
  readonly #guests = new Map<string, Promise<GuestState>>();
  /** Why logs could not be opened. */
  readonly #refusals = new Map<string, string>();

  private constructor(path: string, file: FileHandle, lock: FileLock, onOpened: OpenedListener) {
    this.path = path;
    this.#file = file;
    this.#lock = lock;
    this.#onOpened = onOpened;
  }

  /** Makes it where there is none, and keeps others out until it is closed. @returns undefined while another process works in it */
  static async tryOpen(
    directory: string,
    onOpened: OpenedListener = () => undefined,
  ): Promise<StateDirectory | undefined> {
    const path = resolve(directory);
    let file: FileHandle | undefined;
    try {
      makeOurs(path);
      makeOurs(join(path, "guests"));
      refuseLink(join(path, "guests"));
      file = await open(
        join(path, "lock"),
        constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
        0o600,
      );
      const lock = tryLockFile(file.fd, { mode: "exclusive" });
      if (lock !== undefined) return new StateDirectory(path, file, lock, onOpened);
      await file.close();
      return undefined;
    } catch (error) {
      await file?.close();
      throw fromSystemError(error, { doing: `cannot use the state directory ${path}` });
    }
  }

  async guests(): Promise<string[]> {
    return (await readdir(join(this.path, "guests"))).filter((name) => NAME.test(name)).sort();
  }

  /** Logs that cannot be opened, and damaged ones that are kept. @param examine look into those that nobody has opened so far, too */
  async damages({ examine }: { readonly examine: boolean }): Promise<GuestDamage[]> {
    const damages: GuestDamage[] = [];
    for (const guest of await this.guests()) {
      try {
        if (examine && !this.#guests.has(guest)) await (await this.#open(guest, false)).close();
      } catch (error) {
        if (!PvbusError.is(error)) throw error;
        this.#refusals.set(guest, error.message);
      }
      const refusal = this.#refusals.get(guest);
      if (refusal !== undefined) damages.push({ guest, message: refusal });
      const log = join(this.path, "guests", guest, "log");
      for (const name of await keptBeside(log).catch(() => [])) {
        const path = join(dirname(log), name);
        const lost = lossText(await lossOf(path).catch(() => []));
        const what = lost === "" ? "its log was damaged" : `its log was damaged and has lost ${lost}`;
        const message = `${what}; it was kept as ${path}: remove that file when nothing of it is needed`;
        damages.push({ guest, message });
      }
    }
    return damages;
  }

  /** Opened once. @throws PvbusError `ERR_UNAVAILABLE` when there is none and none is to be made, `ERR_CORRUPT`; TypeError */
  async guest(name: string, { create }: { readonly create: boolean }): Promise<GuestState> {
    checkGuestName(name);
    const known = this.#guests.get(name);
    if (known !== undefined) return known;
    const opening = this.#open(name, create);
    this.#guests.set(name, opening);
    // A failure is not for ever: the administrator may repair the file while the others are served.
    opening.catch(() => this.#guests.delete(name));
    return opening;
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
      if (create && lstatSync(directory, { throwIfNoEntry: false }) === undefined) {
        makeOurs(directory);
        await syncDirectory(dirname(directory));
      }
      checkOurs(directory);
      refuseLink(directory);
    } catch (error) {
      if (!isSystemError(error) || error.code !== "ENOENT")
        throw fromSystemError(error, { doing: `cannot use ${directory}` });
      const known = (await this.guests()).join(", ") || "none";
      throw pvbusError("ERR_UNAVAILABLE", `there is no guest '${name}' in ${this.path}; guests: ${known}`);
    }
    try {
      const state = await GuestState.open(join(directory, "log"), ADMINISTRATOR_LIMITS);
      this.#refusals.delete(name);
      this.#onOpened(name, state);
      return state;
    } catch (error) {
      this.#refusals.set(name, (error as Error).message);
      throw error;
    }
  }
}
