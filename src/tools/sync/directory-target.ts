import { lstatSync } from "node:fs";
import { unlink } from "node:fs/promises";
import { pvbusError } from "../../base/errors.js";
import type { PreparedFile } from "../../base/host/prepared-file.js";
import { HeldDirectory } from "./held-directory.js";
import { byMadeName, fileName } from "./names.js";
import { changedNames, type SyncContent, type SyncTarget } from "./target.js";
import { WrittenNames } from "./written-names.js";

/** Files that are brought to the disk at a time. */
const AT_ONCE = 16;

/** A directory of one file per key. */
export class DirectoryTarget implements SyncTarget {
  readonly #directory: HeldDirectory;
  readonly #names: WrittenNames;
  /** What the files hold, by their names; nothing is known of those of earlier runs. */
  #written: SyncContent = new Map();

  /** @throws PvbusError when it cannot be made */
  constructor(path: string) {
    this.#directory = new HeldDirectory(path);
    this.#names = new WrittenNames(this.#directory);
    this.#directory.removeLeftovers();
  }

  async write(content: SyncContent): Promise<void> {
    const files = byMadeName(content, "the file", fileName, sameOnDisk);
    const changed = changedNames(this.#written, files);
    for (const name of changed) this.#checkPlace(name);
    const prepared = await this.#prepare(changed, files);
    try {
      // Noted first: what a killed run has written is found by the next one.
      await this.#names.add(files.keys());
      for (const file of prepared) await file.place();
      const gone = this.#names.others(files);
      for (const name of gone) await this.#remove(name);
      await this.#names.forget(gone);
    } catch (error) {
      // Which of them have taken their places is not known any more.
      this.#written = new Map();
      for (const file of prepared) await file.discard();
      throw error;
    }
    this.#written = files;
    await this.#directory.sync();
  }

  [Symbol.dispose](): void {
    this.#names[Symbol.dispose]();
    this.#directory[Symbol.dispose]();
  }

  /** A file cannot take the place of a directory; better to know before the first one has taken its own. */
  #checkPlace(name: string): void {
    if (lstatSync(this.#directory.at(name), { throwIfNoEntry: false })?.isDirectory() !== true) return;
    throw pvbusError(
      "ERR_UNAVAILABLE",
      `${this.#directory.path}/${name} is a directory; move it away, or name another place`,
    );
  }

  /** Writes all of them under names of their own, so that a full disk is known before anything has changed. */
  async #prepare(names: readonly string[], files: SyncContent): Promise<PreparedFile[]> {
    const prepared: PreparedFile[] = [];
    for (let at = 0; at < names.length; at += AT_ONCE) {
      const outcomes = await Promise.allSettled(
        names.slice(at, at + AT_ONCE).map((name) => this.#directory.prepare(name, files.get(name) ?? "")),
      );
      for (const outcome of outcomes) if (outcome.status === "fulfilled") prepared.push(outcome.value);
      const failed = outcomes.find((outcome) => outcome.status === "rejected");
      if (failed === undefined) continue;
      for (const file of prepared) await file.discard();
      throw failed.reason;
    }
    return prepared;
  }

  async #remove(name: string): Promise<void> {
    try {
      await unlink(this.#directory.at(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
      throw this.#directory.failure(error, `cannot remove ${this.#directory.path}/${name}`);
    }
  }
}

/** Where a file system does not tell letters' cases apart, such names are one. */
function sameOnDisk(name: string): string {
  return process.platform === "win32" || process.platform === "darwin" ? name.toLowerCase() : name;
}
