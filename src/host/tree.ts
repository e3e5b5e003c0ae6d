import fs, { constants } from "node:fs";
import { join } from "node:path";

/** What is at a place of the machine, held so that the name cannot be given to something else meanwhile. */
export interface Held extends Disposable {
  /** Leads to this very file, directory, socket or device until it is let go; for system calls, not for messages. */
  readonly path: string;
  /** What it is; never a link. */
  readonly stats: fs.Stats;
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
const DESCRIPTORS = "/proc/self/fd";

/**
 * Walks to a path below a directory that stands for `/`: links lead to where they would lead if it were `/`, and neither they,
 * nor `..`, nor whoever changes the tree meanwhile lead out of it. Nothing on the way is opened for reading or writing.
 *
 * Each step looks a single name up in a directory that is held by a descriptor, so there is no moment between checking a
 * path and using it. Where the system has no /proc/self/fd (not Linux), names are checked one by one and used afterwards.
 * @returns undefined when there is nothing
 * @throws a system error, `ELOOP` for links in a circle; what `look` throws
 */
export function holdBelow(root: string, absolute: string, look?: Look): Held | undefined {
  return stepper(root).walk(partsOf(absolute), look);
}

/** As {@link holdBelow}, for the last name of a path: its directory is held, what has the name is not looked at. */
export function holdNameBelow(root: string, absolute: string): HeldName | undefined {
  const parts = partsOf(absolute);
  const name = parts.pop();
  if (name === undefined || name === "..") return undefined;
  const directory = stepper(root).walk(parts);
  if (directory === undefined) return undefined;
  return { path: join(directory.path, name), [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

/** A place on the way. */
interface Step {
  readonly path: string;
  readonly stats: fs.Stats;
  leave(): void;
}

/** How one step is made. */
interface Walker {
  /** Enters the root. */
  root(): Step;
  /** Enters a name in a directory without following it; undefined when there is none. */
  enter(directory: Step, name: string): Step | undefined;
}

function stepper(root: string): { walk(parts: readonly string[], look?: Look): Held | undefined } {
  const walker = hasDescriptors() ? descriptorWalker(root) : nameWalker(root);
  return { walk: (parts, look) => walk(walker, parts, look) };
}

function walk(walker: Walker, parts: readonly string[], look: Look | undefined): Held | undefined {
  const ahead = [...parts].reverse();
  const steps = [walker.root()];
  let links = 0;
  try {
    look?.(steps[0] as Step);
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      if (name === "..") {
        if (steps.length > 1) steps.pop()?.leave();
        continue;
      }
      const here = steps.at(-1) as Step;
      const step = walker.enter(here, name);
      if (step === undefined) return undefined;
      steps.push(step);
      look?.(step, here.stats);
      if (!step.stats.isSymbolicLink()) continue;
      steps.pop();
      step.leave();
      if (++links > MAX_LINKS) throw loop();
      const target = fs.readlinkSync(join(here.path, name));
      if (target.startsWith("/")) for (const left of steps.splice(1)) left.leave();
      ahead.push(...partsOf(target).reverse());
    }
    const found = steps.pop() as Step;
    return { path: found.path, stats: found.stats, [Symbol.dispose]: once(() => found.leave()) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  } finally {
    for (const step of steps) step.leave();
  }
}

let descriptors: boolean | undefined;

/** Tells whether what is held is held by a descriptor; otherwise its path is a name, which others may change. */
export function hasDescriptors(): boolean {
  descriptors ??= process.platform === "linux" && fs.existsSync(DESCRIPTORS);
  return descriptors;
}

function descriptorWalker(root: string): Walker {
  const held = (fd: number): Step => {
    let stats: fs.Stats;
    try {
      stats = fs.fstatSync(fd);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
    return { path: `${DESCRIPTORS}/${fd}`, stats, leave: () => fs.closeSync(fd) };
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

function nameWalker(root: string): Walker {
  const step = (path: string, stats: fs.Stats): Step => ({ path, stats, leave: () => undefined });
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

function loop(): Error {
  return Object.assign(new Error("ELOOP: too many links"), { code: "ELOOP", syscall: "open" });
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}
