import { randomBytes } from "node:crypto";
import { existsSync, statfsSync } from "node:fs";
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { pvbusError } from "../base/errors.js";
import { fromSystemError } from "../base/system-error.js";
import type { Bus } from "../bus/bus.js";
import { type CredentialOptions, type CredentialReport, listCredentials } from "./credentials.js";

/** How credentials are exported. */
export interface ExportOptions extends CredentialOptions {
  /** Write to a file system on a disk too, where secrets stay. Default false. */
  readonly onDisk?: boolean | undefined;
}

/* Linux, include/uapi/linux/magic.h. */
const TMPFS_MAGIC = 0x0102_1994;
const RAMFS_MAGIC = 0x8584_58f6;
const [PRIVATE_DIRECTORY, PRIVATE_FILE] = [0o700, 0o400];

/**
 * Writes all credentials into a directory, a file each, as systemd has them: 0700 and 0400, in memory alone.
 * @returns what was written, and what was not
 * @throws PvbusError `ERR_NOT_SUPPORTED` for a directory on a disk, `ERR_NO_SPACE`, `ERR_PERMISSION`; the first error of a source that
 *   could not be read, before anything is written; and those of {@link listCredentials}
 */
export async function exportCredentials(
  bus: Bus,
  directory: string,
  options: ExportOptions = {},
): Promise<CredentialReport> {
  const report = await listCredentials(bus, options);
  const [refused] = report.unreadable;
  if (refused !== undefined) throw refused.error;
  try {
    if (options.onDisk !== true && !isInMemory(existingPart(directory)))
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        `${directory} is not on tmpfs or ramfs: secrets would stay on a disk; choose a directory below /run, or say --on-disk`,
      );
    await mkdir(directory, { recursive: true, mode: PRIVATE_DIRECTORY });
    await chmod(directory, PRIVATE_DIRECTORY);
    for (const { name, value } of report.credentials) await writePrivate(directory, name, value);
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot write credentials to ${directory}` });
  }
  return report;
}

/** Whoever reads it sees all of it or nothing. */
async function writePrivate(directory: string, name: string, value: Uint8Array): Promise<void> {
  // No credential has a colon in its name.
  const made = join(directory, `:${randomBytes(8).toString("hex")}`);
  try {
    await writeFile(made, value, { mode: PRIVATE_FILE, flag: "wx" });
    await rename(made, join(directory, name));
  } catch (error) {
    await rm(made, { force: true });
    throw error;
  }
}

/** Returns the directory itself, or the nearest one above it that is there: what is made below it is on the same file system. */
function existingPart(directory: string): string {
  const path = resolve(directory);
  return existsSync(path) || path === dirname(path) ? path : existingPart(dirname(path));
}

function isInMemory(directory: string): boolean {
  const { type } = statfsSync(directory);
  return process.platform === "linux" && (type === TMPFS_MAGIC || type === RAMFS_MAGIC);
}
