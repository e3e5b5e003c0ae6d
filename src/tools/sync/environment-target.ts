import { lstatSync, readlinkSync, type Stats, statSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { pvbusError } from "../../base/errors.js";
import { environmentText } from "./environment-text.js";
import { HeldDirectory } from "./held-directory.js";
import type { SyncContent, SyncTarget } from "./target.js";

/** A file of `NAME=value` lines. */
export class EnvironmentTarget implements SyncTarget {
  readonly #directory: HeldDirectory;
  readonly #name: string;

  /** @throws PvbusError when its directory cannot be made, or what has its name is no file */
  constructor(path: string) {
    const absolute = resolve(path);
    this.#directory = new HeldDirectory(dirname(absolute));
    this.#name = basename(absolute);
    checkReplaceable(this.#directory.at(this.#name), absolute);
    this.#directory.removeLeftovers(this.#name);
  }

  async write(content: SyncContent): Promise<void> {
    const file = await this.#directory.prepare(this.#name, environmentText(content));
    try {
      await file.place();
    } catch (error) {
      await file.discard();
      throw error;
    }
    await this.#directory.sync();
  }

  [Symbol.dispose](): void {
    this.#directory[Symbol.dispose]();
  }
}

/** Refuses what would be lost for good if a file took its place: a device, a FIFO, `/dev/stdout`. */
function checkReplaceable(path: string, name: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined || found.isFile()) return;
  if (found.isSymbolicLink() && !readlinkSync(path).startsWith("/proc/") && isFileOrNothing(path)) return;
  throw pvbusError("ERR_UNAVAILABLE", `${name} is no file, and would be replaced by one; name another place`);
}

function isFileOrNothing(path: string): boolean {
  let found: Stats | undefined;
  try {
    found = statSync(path, { throwIfNoEntry: false });
  } catch {
    return false;
  }
  return found === undefined || found.isFile();
}
