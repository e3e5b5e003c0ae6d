import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { PvbusError } from "../../base/errors.js";
import { HeldDirectory } from "./held-directory.js";
import { isFileName } from "./names.js";

/** Begins with a dot, as no file of a key does. */
const INSIDE = ".pvbus-sync";
const MAX_BYTES = 64 * 1024 * 1024;

/** A place for the list. */
interface Place {
  readonly directory: HeldDirectory;
  readonly name: string;
}

/**
 * The names of the files that a sync has written into a directory, kept for the next run: it removes those whose keys have gone
 * meanwhile, and no file of anybody else. The list lies beside the directory, which holds one file per key and nothing else;
 * within it where nothing can be written beside it.
 */
export class WrittenNames implements Disposable {
  readonly #places: readonly Place[];
  readonly #parent: HeldDirectory | undefined;
  readonly #names: Set<string>;

  constructor(directory: HeldDirectory) {
    const inside: Place = { directory, name: INSIDE };
    const base = basename(directory.path);
    // Nothing lies beside the root.
    this.#parent = base === "" ? undefined : new HeldDirectory(dirname(directory.path));
    const name = `.${base}${INSIDE}`;
    this.#parent?.removeLeftovers(name);
    this.#places = this.#parent === undefined ? [inside] : [{ directory: this.#parent, name }, inside];
    this.#names = new Set(this.#places.flatMap(readNames));
  }

  /** Notes names before files get them. */
  async add(names: Iterable<string>): Promise<void> {
    const before = this.#names.size;
    for (const name of names) this.#names.add(name);
    if (this.#names.size !== before) await this.#write();
  }

  /** Returns the names that are none of these. */
  others(names: { has(name: string): boolean }): string[] {
    return [...this.#names].filter((name) => !names.has(name));
  }

  /** Forgets names whose files are gone. */
  async forget(names: readonly string[]): Promise<void> {
    for (const name of names) this.#names.delete(name);
    if (names.length > 0) await this.#write();
  }

  [Symbol.dispose](): void {
    this.#parent?.[Symbol.dispose]();
  }

  async #write(): Promise<void> {
    const text = [...this.#names].map((name) => `${name}\n`).join("");
    for (const [at, { directory, name }] of this.#places.entries()) {
      try {
        const file = await directory.prepare(name, text);
        await file.place();
        return;
      } catch (error) {
        const isRefused =
          PvbusError.is(error) && (error.code === "ERR_PERMISSION" || error.code === "ERR_READ_ONLY");
        if (!isRefused || at === this.#places.length - 1) throw error;
      }
    }
  }
}

/** Reads the list, where it is a file that nobody but this user can have written. */
function readNames({ directory, name }: Place): string[] {
  let fd: number;
  try {
    fd = openSync(directory.at(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return [];
  }
  try {
    const stats = fstatSync(fd);
    const isOurs = stats.isFile() && (process.geteuid === undefined || stats.uid === process.geteuid());
    if (!isOurs || (stats.mode & 0o022) !== 0 || stats.size > MAX_BYTES) return [];
    return readFileSync(fd, "utf8").split("\n").filter(isFileName);
  } finally {
    closeSync(fd);
  }
}
