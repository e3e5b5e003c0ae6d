import { ownEntry } from "../own.js";

/** What of a process tells whose environment it has. */
export type EnvironmentOwner = Pick<NodeJS.Process, "env" | "getuid" | "geteuid" | "getgid" | "getegid">;

/** Reports whether a process has rights that its caller has not: it is setuid or setgid. */
export function isElevated({ getuid, geteuid, getgid, getegid }: EnvironmentOwner = process): boolean {
  return getuid?.() !== geteuid?.() || getgid?.() !== getegid?.();
}

/**
 * Returns the environment variables of a process, none where it is setuid or setgid: there they are the caller's word, and
 * `PVBUS_SYSROOT` or `XENSTORED_PATH` would choose what the rights are used on. Behind `sudo -E` the ids are the same: that caller
 * may do everything anyway. Everything that reads variables has them from here.
 */
export function processEnvironment(
  owner: EnvironmentOwner = process,
): Readonly<Record<string, string | undefined>> {
  return isElevated(owner) ? {} : owner.env;
}

/** Reports whether a variable is set that {@link processEnvironment} leaves out, since the process is setuid or setgid. */
export function isHidden(name: string, owner: EnvironmentOwner = process): boolean {
  return isElevated(owner) && ownEntry(owner.env, name) !== undefined;
}
