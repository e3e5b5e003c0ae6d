import { createHash, randomBytes } from "node:crypto";
import { constants, mkdirSync, readdirSync, unlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { pvbusError } from "../../base/errors.js";
import { type PreparedFile, prepareFile } from "../../base/host/prepared-file.js";
import { type Held, holdBelow } from "../../base/host/tree.js";
import { fromSystemError } from "../../base/system-error.js";

/** What new files are called until they take their place. */
const MARK = ".pvbus-sync-";
const ADVICE = {
  EISDIR: "name another place, or move the directory away",
  ENOTDIR: "name a directory",
  ENOENT: "the directory is gone; start again",
};

/**
 * A directory in which files are replaced whole. It is held from the beginning, so that whoever changes the way to it cannot lead
 * what is written elsewhere.
 */
export class HeldDirectory implements Disposable {
  /** Its name, for messages. */
  readonly path: string;
  readonly #held: Held;

  /** @throws PvbusError `ERR_PERMISSION`, `ERR_UNAVAILABLE` and what else making or holding it fails with */
  constructor(path: string) {
    this.path = resolve(path);
    try {
      mkdirSync(this.path, { recursive: true, mode: 0o700 });
      const held = holdBelow("/", this.path);
      if (held === undefined) throw pvbusError("ERR_UNAVAILABLE", `${this.path} is gone; start again`);
      this.#held = held;
    } catch (error) {
      throw this.failure(error, `cannot make the directory ${this.path}`);
    }
  }

  /** Returns the path of a name in it, for system calls. */
  at(name: string): string {
    return `${this.#held.path}/${name}`;
  }

  /**
   * Writes a file that is to get this name.
   * @throws PvbusError `ERR_NO_SPACE`, `ERR_PERMISSION`, ...: then nothing is left
   */
  async prepare(name: string, content: string | Uint8Array): Promise<PreparedFile> {
    const beside = this.at(`${markOf(name)}${randomBytes(6).toString("hex")}`);
    const doing = `cannot write ${this.path}/${name}`;
    const file = await this.#mapped(doing, () => prepareFile(this.at(name), beside, content));
    return { place: () => this.#mapped(doing, () => file.place()), discard: () => file.discard() };
  }

  /** Brings its names to the disk. */
  async sync(): Promise<void> {
    await this.#mapped(`cannot write ${this.path}`, async () => {
      const directory = await open(this.at("."), constants.O_RDONLY);
      try {
        await directory.sync();
      } finally {
        await directory.close();
      }
    });
  }

  /** Removes what a run that was killed left of files that were to get one of these names, or any. */
  removeLeftovers(name?: string): void {
    const mark = name === undefined ? MARK : markOf(name);
    for (const each of readdirSync(this.at("."))) {
      if (!each.startsWith(mark)) continue;
      try {
        unlinkSync(this.at(each));
      } catch {
        // It is no file, or somebody else was quicker.
      }
    }
  }

  /** Maps an error of the system. */
  failure(error: unknown, doing: string): unknown {
    return fromSystemError(error, { doing, advice: ADVICE });
  }

  [Symbol.dispose](): void {
    this.#held[Symbol.dispose]();
  }

  async #mapped<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.failure(error, doing);
    }
  }
}

/** Begins with a dot, as no file of a key does, and is short, however long the name is. */
function markOf(name: string): string {
  return `${MARK}${createHash("sha256").update(name).digest("hex").slice(0, 16)}-`;
}
