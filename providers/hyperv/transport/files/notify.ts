import { type FSWatcher, lstatSync, realpathSync, statSync, watch } from "node:fs";
import { basename, dirname, join, posix, relative, resolve } from "node:path";
import { type HostFiles, hostFiles } from "../../../../src/base/host/files.js";
import type { Host } from "../../../../src/base/host/host.js";
import type { Held } from "../../../../src/base/host/tree.js";
import { isSystemError } from "../../../../src/base/system-error.js";

/** How often the files are looked at where the file system sends no notifications. */
const POLL_MS = 1_000;
/** A file that changed less than this ago may change again without a new stamp, on file systems that stamp coarsely. */
const FRESH_MS = 2_500;
/** Where the notifications of a directory report changes inside its files too (inotify); kqueue(2) does not. */
const REPORTS_CONTENT = process.platform === "linux";
/** The last name of what a held directory is watched by. */
const HELD_NAME = /^\d+$/;
/** The way to the sysroot itself, which its user has named: nothing in the tree has a say in that. */
const OUTSIDE = hostFiles(undefined);

/** What reports changes of files in a directory. */
export interface NotifyParts {
  readonly host: Pick<Host, "files" | "logger" | "path" | "sysroot">;
  /** The directory on the machine, which may come and go. */
  readonly directory: string;
  readonly files: readonly string[];
  /** Called after a change, and after what may have hidden one. */
  readonly ring: () => void;
  /** Whether changes inside files are notified; default: as the system does it. */
  readonly reportsContent?: boolean;
}

/** One directory on the way. */
interface Part {
  /** Its path. */
  readonly name: string;
  /** Names in it that lead on. */
  readonly onwards: ReadonlySet<string>;
  /** Whether it is the files' own. */
  readonly isDirectory: boolean;
  hold(): Held | undefined;
}

/**
 * Arms the notification for files in a directory before it returns. The directory may be missing, removed, made again or
 * replaced, and so may those above it: a notification belongs to what had the name once, so all parts of the path are followed,
 * and whenever one changes hands all is armed again. Where the system sends none the files are looked at once a second.
 * @returns what ends it
 */
export function notifyFiles(parts: NotifyParts): () => void {
  const notifications = new FileNotifications(parts);
  return () => notifications.close();
}

class FileNotifications {
  readonly #given: NotifyParts;
  readonly #files: ReadonlySet<string>;
  readonly #watchers: FSWatcher[] = [];
  #timer: NodeJS.Timeout | undefined;
  #signature: string;
  #pending = false;
  #closed = false;

  constructor(parts: NotifyParts) {
    this.#given = parts;
    this.#files = new Set(parts.files);
    this.#signature = this.#look();
    this.#arm();
    if (!(parts.reportsContent ?? REPORTS_CONTENT)) this.#poll();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#disarm();
  }

  /** From the root downwards: what changes hands below while this runs is reported by a part that is armed already. */
  #arm(): void {
    for (const part of this.#parts()) {
      try {
        using held = part.hold();
        // The part above reports what is missing when it comes.
        if (held?.stats.isDirectory()) this.#watch(part, held);
      } catch (error) {
        if (!isSystemError(error)) throw error;
        if (error.code !== "ENOENT" && error.code !== "ENOTDIR") this.#fail(part.name, error);
      }
    }
  }

  /** The notification is of the directory itself, and stays with it when the path no longer leads there. */
  #watch({ name: directory, onwards, isDirectory }: Part, { path }: Held): void {
    const isHeld = path !== directory;
    const watcher = watch(path, (_event, name) => {
      if (isDirectory && name !== null && this.#files.has(name)) this.#given.ring();
      else if (name === null || onwards.has(name)) this.#rearm();
      // A part itself is reported by the last name of the path by which this process has watched it first.
      else if (name === basename(path) || (isHeld && HELD_NAME.test(name))) this.#rearm();
    });
    watcher.on("error", (error) => this.#fail(directory, error));
    this.#watchers.push(watcher);
  }

  #disarm(): void {
    for (const watcher of this.#watchers.splice(0)) watcher.close();
  }

  /** Once for a burst of events. */
  #rearm(): void {
    if (this.#pending || this.#closed) return;
    this.#pending = true;
    setImmediate(() => {
      this.#pending = false;
      if (this.#closed) return;
      this.#disarm();
      this.#arm();
      // What changed meanwhile shows when the files are compared again.
      this.#given.ring();
    });
  }

  /** The parts of the path as it is written and as links make it, each with the names in it that lead to the directory. */
  #parts(): Part[] {
    const { host, directory } = this.#given;
    const { sysroot, files } = host;
    if (sysroot === undefined) {
      const written = resolve(directory);
      return partsOf([written, realOf(written)], (name) => files.hold(name));
    }
    const written = posix.resolve("/", directory);
    const inside = partsOf([written, insideOf(files, written)], (name) => files.hold(name));
    const outside = partsOf([sysroot, realOf(sysroot)], (name) => OUTSIDE.hold(name));
    return [...outside.filter(({ isDirectory }) => !isDirectory), ...inside];
  }

  #fail(directory: string, error: unknown): void {
    if (this.#closed) return;
    if (this.#timer === undefined)
      this.#given.host.logger.warn("no file notifications, looking once a second", { directory, error });
    this.#poll();
  }

  #poll(): void {
    this.#timer ??= setInterval(() => {
      const signature = this.#look();
      if (signature === this.#signature) return;
      this.#signature = signature;
      this.#rearm();
    }, POLL_MS);
  }

  /** Returns a text that is another one when anything changed. */
  #look(): string {
    const { host, directory, files } = this.#given;
    try {
      using held = host.files.hold(directory);
      if (held === undefined) return "";
      const { path } = held;
      return [stampOf(path, statSync), ...files.map((name) => stampOf(join(path, name), lstatSync))].join();
    } catch (error) {
      if (!isSystemError(error)) throw error;
      return String(error.code);
    }
  }
}

/** Returns the directories on some ways to one, from the root downwards, the last one included. */
function partsOf(ways: readonly string[], hold: (name: string) => Held | undefined): Part[] {
  const onwards = new Map<string, Set<string>>();
  for (const path of new Set(ways)) {
    if (!onwards.has(path)) onwards.set(path, new Set());
    for (let below = path, above = dirname(below); above !== below; below = above, above = dirname(below))
      onwards.set(above, (onwards.get(above) ?? new Set()).add(basename(below)));
  }
  const parts = [...onwards].map(([name, names]) => {
    return { name, onwards: names, isDirectory: ways.includes(name), hold: () => hold(name) };
  });
  return parts.sort((a, b) => a.name.length - b.name.length);
}

/** Follows the links on the way; returns the way itself where nothing is there. */
function realOf(path: string, find = (): string => realpathSync.native(path)): string {
  try {
    return find();
  } catch {
    return path;
  }
}

/** As {@link realOf}, for a directory below the sysroot; what was taken out of it meanwhile is not followed. */
function insideOf(files: HostFiles, path: string): string {
  return realOf(path, () => {
    using top = files.hold("/");
    using held = files.hold(path);
    if (top === undefined || held === undefined) return path;
    const way = relative(realpathSync.native(top.path), realpathSync.native(held.path));
    return way.split(/[\\/]/, 1)[0] === ".." ? path : posix.resolve("/", way.replaceAll("\\", "/"));
  });
}

function stampOf(path: string, look: typeof lstatSync): string {
  try {
    const stats = look(path, { bigint: true, throwIfNoEntry: false });
    if (stats === undefined) return "";
    const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = stats;
    const now = Date.now();
    const isFresh = Math.abs(now - Number(ctimeMs)) < FRESH_MS;
    return [dev, ino, size, mtimeNs, ctimeNs, isFresh ? now : 0].join(":");
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
