import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import type { HostFiles } from "../../../src/base/host/files.js";
import { missing } from "../pool-errors.js";

/** O_NOFOLLOW is not there on Windows; O_EXCL alone takes no link either. */
const NEW_FILE =
  constants.O_WRONLY |
  constants.O_CREAT |
  constants.O_EXCL |
  ((constants.O_NOFOLLOW as number | undefined) ?? 0);

/**
 * Puts a file in place whole or not at all, readable by its owner alone: written beside its place, brought to the disk, renamed.
 * A link in its place is replaced, never followed. The directory is to be one in which nobody else can make names.
 */
export async function writeWhole(files: HostFiles, path: string, text: string): Promise<void> {
  using held = files.holdName(path);
  if (held === undefined) throw missing(path);
  const beside = `${held.path}.${randomBytes(6).toString("hex")}`;
  let file: FileHandle | undefined;
  try {
    file = await open(beside, NEW_FILE, 0o600);
    await file.writeFile(text);
    await file.sync();
    await file.close();
    file = undefined;
    await rename(beside, held.path);
  } catch (error) {
    await file?.close();
    await unlink(beside).catch(() => undefined);
    throw error;
  }
}
