import fs from "node:fs";
import { join, resolve } from "node:path";

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
/** Links that one path follows, as Linux has it (path_resolution(7)). */
const MAX_LINKS = 40;

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
 * whole way to it is looked at, links followed. After it has found nobody, the path leads where it led, until one of us changes it.
 * @throws the file system's error when there is nothing at the path
 */
export function foreignHandOn(path: string, rule: OwnershipRule): ForeignHand | undefined {
  if (process.geteuid === undefined) return undefined;
  const steps = ["/"];
  const ahead = partsOf(resolve(path)).reverse();
  const onTheWay = { ...rule, sticky: true };
  let stats = fs.lstatSync("/");
  for (let links = 0; ; ) {
    const here = steps.at(-1) as string;
    const isLast = ahead.length === 0;
    const why = foreignHand(stats, isLast ? rule : onTheWay);
    if (why !== undefined) return { path: here, why };
    if (isLast) return undefined;
    const name = ahead.pop() as string;
    if (name === "..") {
      if (steps.length > 1) steps.pop();
      stats = fs.lstatSync(steps.at(-1) as string);
      continue;
    }
    const next = join(here, name);
    stats = fs.lstatSync(next);
    if (!stats.isSymbolicLink()) {
      steps.push(next);
      continue;
    }
    const hand = foreignHand(stats, onTheWay);
    if (hand !== undefined) return { path: next, why: hand };
    if (++links > MAX_LINKS) throw tooManyLinks(path);
    const target = fs.readlinkSync(next);
    if (target.startsWith("/")) steps.splice(1);
    ahead.push(...partsOf(target).reverse());
    stats = fs.lstatSync(steps.at(-1) as string);
  }
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

function tooManyLinks(path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`ELOOP: too many links, lstat '${path}'`), {
    code: "ELOOP",
    syscall: "lstat",
    path,
  });
}
