import { type BigIntStats, type FSWatcher, realpathSync, statSync, watch } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isSystemError } from "../../src/bus/system-error.js";
import type { Logger } from "../../src/host/host.js";

/** How often the files are looked at where the file system gives no notifications. */
const POLL_MS = 1_000;
/** A file that changed less than this ago may change again without a new stamp, on file systems that stamp coarsely. */
const FRESH_MS = 2_500;
/** Where a directory's notification tells of changes inside its files too (inotify); kqueue(2) does not. */
const TELLS_OF_CONTENT = process.platform === "linux";

/** What tells of changes of files in a directory. */
export interface NotifyParts {
  /** The directory, which may come and go. */
  readonly directory: string;
  /** Names of the files. */
  readonly files: readonly string[];
  /** Called after a change, and after what may have hidden one. */
  readonly ring: () => void;
  /** Messages. */
  readonly logger: Logger;
  /** Whether changes inside files are notified; default: as the system does it. */
  readonly tellsOfContent?: boolean;
}

/**
 * Arms the notification for files in a directory before it returns. The directory may be missing, removed, made again or
 * replaced, and so may those above it: a notification belongs to what had the name once, so all parts of the path are followed,
 * and whenever one changes hands all is armed again. Where the system gives no notifications the files are looked at once a second.
 * @returns what ends it
 */
export function notifyFiles(parts: NotifyParts): () => void {
  const notifier = new Notifier(parts);
  return () => notifier.close();
}

class Notifier {
  readonly #parts: NotifyParts;
  readonly #files: ReadonlySet<string>;
  #watchers: FSWatcher[] = [];
  #timer: NodeJS.Timeout | undefined;
  #signature: string;
  #pending = false;
  #closed = false;

  constructor(parts: NotifyParts) {
    this.#parts = parts;
    this.#files = new Set(parts.files);
    this.#signature = this.#look();
    this.#arm();
    if (!(parts.tellsOfContent ?? TELLS_OF_CONTENT)) this.#poll();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#disarm();
  }

  /** From the root downwards: what changes hands below while this runs is told by a part that is armed already. */
  #arm(): void {
    const { directory } = this.#parts;
    for (const { place, names } of this.#places()) {
      const isDirectory = place === directory;
      try {
        const watcher = watch(place, (_event, name) => {
          if (isDirectory && name !== null && this.#files.has(name)) this.#parts.ring();
          // A part itself is told of by its own name.
          else if (name === null || names.has(name) || name === basename(place)) this.#rearm();
        });
        watcher.on("error", (error) => this.#fail(place, error));
        this.#watchers.push(watcher);
      } catch (error) {
        if (!isSystemError(error)) throw error;
        // What is missing is told of by the part above when it comes.
        if (error.code !== "ENOENT" && error.code !== "ENOTDIR") this.#fail(place, error);
      }
    }
  }

  #disarm(): void {
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
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
      this.#parts.ring();
    });
  }

  /** The parts of the path as it is written and as links make it, each with the names in it that lead to the directory. */
  #places(): { readonly place: string; readonly names: ReadonlySet<string> }[] {
    const names = new Map<string, Set<string>>();
    for (const path of new Set([this.#parts.directory, this.#real()])) {
      if (!names.has(path)) names.set(path, new Set());
      for (let below = path; dirname(below) !== below; below = dirname(below)) {
        const above = dirname(below);
        names.set(above, (names.get(above) ?? new Set()).add(basename(below)));
      }
    }
    return [...names]
      .map(([place, own]) => ({ place, names: own }))
      .sort((a, b) => a.place.length - b.place.length);
  }

  #real(): string {
    try {
      return realpathSync.native(this.#parts.directory);
    } catch {
      // It is not there: then there is nothing behind a link to follow.
      return this.#parts.directory;
    }
  }

  #fail(place: string, error: unknown): void {
    if (this.#closed) return;
    if (this.#timer === undefined)
      this.#parts.logger.warn("no file notifications, looking once a second", { directory: place, error });
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

  /** Gives a text that is another one when anything changed. */
  #look(): string {
    const { directory } = this.#parts;
    return [directory, ...this.#parts.files.map((name) => join(directory, name))].map(stampOf).join();
  }
}

function stampOf(path: string): string {
  let stats: BigIntStats | undefined;
  try {
    stats = statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
  if (stats === undefined) return "";
  const now = Date.now();
  const isFresh = Math.abs(now - Number(stats.ctimeMs)) < FRESH_MS;
  return [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs, isFresh ? now : 0].join(":");
}
