import fs, { constants } from "node:fs";
import { isAbsolute, join } from "node:path";
import { systemError } from "../system-error.js";

/** What is at a place of the machine, held so that the name cannot be given to something else meanwhile. */
export interface Held extends Disposable {
  /** Leads to this very file, directory, socket or device until it is let go; for system calls, not for messages. */
  readonly path: string;
  /** What it is; never a link. */
  readonly stats: fs.Stats;
  /** Whether the path is but a name of the live machine, which may come to stand for another file of the same kind. */
  readonly isLive?: boolean | undefined;
}

/** A name in a directory that is held: for what is looked up, made, renamed or removed by its name. */
export interface HeldName extends Disposable {
  /** Leads to that name in this very directory until it is let go; its last part may be a link, which O_NOFOLLOW refuses. */
  readonly path: string;
}

/**
 * Looks at what a walk comes to, the root first, links before they are followed; throws to end it there.
 * @param directory what the name was looked up in; not given for the root
 */
export type Look = (found: Pick<Held, "path" | "stats">, directory?: fs.Stats) => void;

/** The kernel's own: a descriptor that stands for a place and opens nothing (Linux fcntl.h). */
const O_PATH = 0o10000000;
/** Links that one walk follows, as Linux has it (path_resolution(7)). */
const MAX_LINKS = 40;
/** Names that one walk looks up: links that lead through a deep tree again and again must not keep the process busy. */
const MAX_LOOKUPS = 1_000;
const DESCRIPTORS = "/proc/self/fd";

/**
 * Walks to a path below a directory that stands for `/`: links lead to where they would lead if it were `/`, and neither they,
 * nor `..`, nor whoever changes the tree meanwhile lead out of it. Nothing on the way is opened for reading or writing.
 *
 * Each step looks a single name up in a directory that is held by a descriptor, so there is no moment between checking a
 * path and using it. The kernel's own links (`/proc/self/root`) are taken by their text as all others are. Where the system
 * has no /proc/self/fd (not Linux), names are checked one by one and used afterwards.
 * @param walker stands in for that of the system
 * @returns undefined when there is nothing
 * @throws a system error, `ELOOP` for links in a circle, `ENAMETOOLONG` for a way of more than 1,000 names
 */
export function holdBelow(root: string, absolute: string, walker = walkerIn(root)): Held | undefined {
  return walk(walker, partsOf(absolute));
}

/** As {@link holdBelow}, for the last name of a path: its directory is held, what has the name is not looked at. */
export function holdNameBelow(root: string, absolute: string, walker = walkerIn(root)): HeldName | undefined {
  const parts = partsOf(absolute);
  const name = parts.pop();
  if (name === undefined || name === "..") return undefined;
  const directory = walk(walker, parts);
  if (directory === undefined) return undefined;
  if (directory.stats.isDirectory())
    return { path: join(directory.path, name), [Symbol.dispose]: directory[Symbol.dispose] };
  directory[Symbol.dispose]();
  return undefined;
}

function partsOf(path: string): string[] {
  return path
    .split(process.platform === "win32" ? /[\\/]/ : "/")
    .filter((part) => part !== "" && part !== ".");
}

/** How one step is made. */
export interface Walker {
  /** Enters the root. */
  root(): Held;
  /** Enters a name in a directory without following it; undefined when there is none. */
  enter(directory: Held, name: string): Held | undefined;
}

/** Returns what is at the end of a way, to be left by the caller. */
function walk(walker: Walker, parts: readonly string[]): Held | undefined {
  // No system call takes one, and Node's refusal is no system error.
  if (parts.some((part) => part.includes("\0"))) return undefined;
  const way = new Way(walker);
  try {
    const ahead = [...parts].reverse();
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      const target = name === ".." ? way.back() : way.enter(name);
      if (target === undefined) continue;
      if (isAbsolute(target)) way.restart();
      ahead.push(...partsOf(target).reverse());
    }
    return way.end();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  } finally {
    way.leave();
  }
}

/**
 * The way from the root to where a walk is. One place is held at a time, however deep the tree: what lies before it is gone
 * through again, by its names, on the rare way back.
 */
class Way {
  readonly #walker: Walker;
  /** Directories from the root to here, none of them a link. */
  readonly #names: string[] = [];
  /** Where it is; undefined after a step back, until it is known that the walk does not end there. */
  #here: Held | undefined;
  #lookups = 0;
  #links = 0;

  constructor(walker: Walker) {
    this.#walker = walker;
  }

  /** Goes on to a name. @returns the target of a link, which is to be followed */
  enter(name: string): string | undefined {
    for (;;) {
      const here = this.#place();
      const step = this.#lookUp(here, name);
      if (!step.stats.isSymbolicLink()) {
        here[Symbol.dispose]();
        this.#here = step;
        this.#names.push(name);
        return undefined;
      }
      step[Symbol.dispose]();
      if (++this.#links > MAX_LINKS) throw systemError("ELOOP", "too many links", "open");
      const target = targetOf(join(here.path, name));
      if (target !== undefined) return target;
    }
  }

  /** Goes back to the directory above; above the root is the root. */
  back(): undefined {
    if (this.#here?.stats.isDirectory() === false) throw NOTHING;
    this.leave();
    this.#names.pop();
  }

  /** Goes back to the root. */
  restart(): void {
    this.leave();
    this.#names.length = 0;
  }

  /** Returns the place where it is, which is the caller's. */
  end(): Held {
    const here = this.#place();
    this.#here = undefined;
    return here;
  }

  /** Lets go of the place where it is. */
  leave(): void {
    this.#here?.[Symbol.dispose]();
    this.#here = undefined;
  }

  #place(): Held {
    if (this.#here !== undefined) return this.#here;
    this.#here = this.#walker.root();
    for (const name of this.#names) {
      const step = this.#lookUp(this.#here, name);
      this.#here[Symbol.dispose]();
      this.#here = step;
      // Somebody puts something else in place of a directory; whoever asks next finds that.
      if (!step.stats.isDirectory()) throw NOTHING;
    }
    return this.#here;
  }

  #lookUp(directory: Held, name: string): Held {
    if (++this.#lookups > MAX_LOOKUPS) throw systemError("ENAMETOOLONG", "the way is too long", "open");
    const step = directory.stats.isDirectory() ? this.#walker.enter(directory, name) : undefined;
    if (step === undefined) throw NOTHING;
    return step;
  }
}

/** Returns where a link leads; undefined when it is none any more. */
function targetOf(link: string): string | undefined {
  try {
    return fs.readlinkSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EINVAL") return undefined;
    throw error;
  }
}

let descriptors: boolean | undefined;

/** Reports whether what is held is held by a descriptor; otherwise its path is a name, which others may change. */
export function hasDescriptors(): boolean {
  descriptors ??= process.platform === "linux" && fs.existsSync(DESCRIPTORS);
  return descriptors;
}

function walkerIn(root: string): Walker {
  return hasDescriptors() ? descriptorWalker(root) : nameWalker(root);
}

/** Walks as the system has it, and shows each place that it comes to. */
export function watchfulWalker(root: string, look: Look): Walker {
  const walker = walkerIn(root);
  const shown = (step: Held, directory?: fs.Stats): Held => {
    try {
      look(step, directory);
      return step;
    } catch (error) {
      step[Symbol.dispose]();
      throw error;
    }
  };
  return {
    root: () => shown(walker.root()),
    enter: (directory, name) => {
      const step = walker.enter(directory, name);
      return step && shown(step, directory.stats);
    },
  };
}

function descriptorWalker(root: string): Walker {
  const held = (fd: number): Held => {
    try {
      const letGo = once(() => fs.closeSync(fd));
      return { path: `${DESCRIPTORS}/${fd}`, stats: fs.fstatSync(fd), [Symbol.dispose]: letGo };
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  };
  return {
    root: () => held(fs.openSync(root, O_PATH | constants.O_DIRECTORY)),
    enter: (directory, name) => {
      const path = `${directory.path}/${name}`;
      // Most of what is asked for is not there, and an exception costs far more than this question.
      if (fs.lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
      return held(fs.openSync(path, O_PATH | constants.O_NOFOLLOW));
    },
  };
}

/** Walks by names alone, for systems whose descriptors have no names. */
export function nameWalker(root: string): Walker {
  const step = (path: string, stats: fs.Stats): Held => ({ path, stats, [Symbol.dispose]: () => undefined });
  return {
    root: () => {
      const path = fs.realpathSync.native(root);
      return step(path, fs.lstatSync(path));
    },
    enter: (directory, name) => {
      const path = join(directory.path, name);
      const stats = fs.lstatSync(path, { throwIfNoEntry: false });
      return stats && step(path, stats);
    },
  };
}

/** One for all, since most of what is asked for is not there. */
const NOTHING = systemError("ENOENT", "no such file or directory", "open");

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}
