import fs from "node:fs";
import { resolve } from "node:path";
import { systemError } from "../system-error.js";
import { hasDescriptors, holdBelow, type Look, watchfulWalker } from "./tree.js";

/** A place that others can change, and how. */
export interface ForeignHand {
  /** The place: what was asked for, or a directory or link on the way to it. */
  readonly path: string;
  /** What is wrong with it, for a message: `belongs to user 1000`. */
  readonly why: string;
}

/** What counts as foreign. */
export interface OwnershipRule {
  /** Users who may own and write beside root. */
  readonly trusted: ReadonlySet<number>;
  /**
   * Whether a sticky directory that all may write will do: others can make names there, but not take ours. Nothing of theirs may
   * be trusted then. Default false.
   */
  readonly sticky?: boolean | undefined;
}

const S_ISVTX = 0o1000;

/** Returns this process's user for a rule; nobody where the system has no users. */
export function ourselves(): ReadonlySet<number> {
  const uid = process.geteuid?.();
  return new Set(uid === undefined ? [] : [uid]);
}

/**
 * Reports how somebody else than root and the trusted users can change a file, or the names in a directory.
 * Access lists need no look of their own: what they grant shows in the group's bits (acl(5)).
 * @returns undefined when nobody can, and where the system has no users
 */
export function foreignHand(
  stats: Pick<fs.Stats, "uid" | "mode" | "isSymbolicLink">,
  { trusted, sticky = false }: OwnershipRule,
): string | undefined {
  if (process.geteuid === undefined) return undefined;
  if (stats.uid !== 0 && !trusted.has(stats.uid)) return `belongs to user ${stats.uid}`;
  // A link has no permissions; who may replace it, its directory says.
  if (stats.isSymbolicLink() || (sticky && (stats.mode & S_ISVTX) !== 0)) return undefined;
  if ((stats.mode & 0o002) !== 0) return "can be written by all users";
  return (stats.mode & 0o020) === 0 ? undefined : "can be written by its group";
}

/**
 * Reports whether somebody else than root and the trusted users can change a file or directory, or put another one in its place: the
 * whole way to it is looked at, links followed, each name in a directory that is held. After it has found nobody, the path leads
 * where it led, until one of us changes it.
 * @throws the file system's error when there is nothing at the path
 */
export function foreignHandOn(path: string, rule: OwnershipRule): ForeignHand | undefined {
  if (process.geteuid === undefined) return undefined;
  let hand: ForeignHand | undefined;
  const look =
    (allowed: OwnershipRule): Look =>
    (found) => {
      const why = foreignHand(found.stats, allowed);
      if (why === undefined) return;
      hand = { path: nameOf(found.path), why };
      throw FOUND;
    };
  try {
    using held = holdBelow("/", resolve(path), watchfulWalker("/", look({ ...rule, sticky: true })));
    if (held === undefined) throw systemError("ENOENT", "no such file or directory", "lstat", path);
    look(rule)(held);
  } catch (error) {
    if (error !== FOUND) throw error;
  }
  return hand;
}

/** Ends a walk. */
const FOUND = new Error("a foreign hand");

/** Returns the name of what is held, for messages. */
export function nameOf(path: string): string {
  return hasDescriptors() ? fs.readlinkSync(path) : path;
}
