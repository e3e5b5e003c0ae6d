import { constants } from "node:fs";
import { type FileHandle, open, rename, unlink } from "node:fs/promises";

/** O_NOFOLLOW is not there on Windows; O_EXCL alone takes no link either. */
const NEW_FILE =
  constants.O_WRONLY |
  constants.O_CREAT |
  constants.O_EXCL |
  ((constants.O_NOFOLLOW as number | undefined) ?? 0);

/** A new file that is whole and on the disk, under a name of its own until it takes its place. */
export interface PreparedFile {
  /** Gives it its name; whatever has that name is replaced in one step, a link itself and not what it leads to. */
  place(): Promise<void>;
  /** Removes it, where it has not taken its place. */
  discard(): Promise<void>;
}

/**
 * Writes a new file, readable by its owner alone, beside the place that it is for.
 * @param path the place
 * @param beside a free name on the same file system, in a directory in which nobody else can make names
 * @throws the file system's error; then nothing is left
 */
export async function prepareFile(
  path: string,
  beside: string,
  content: string | Uint8Array,
): Promise<PreparedFile> {
  const discard = (): Promise<void> => unlink(beside).catch(() => undefined);
  let file: FileHandle | undefined;
  try {
    file = await open(beside, NEW_FILE, 0o600);
    await file.writeFile(content);
    await file.sync();
    await file.close();
    file = undefined;
  } catch (error) {
    await file?.close();
    await discard();
    throw error;
  }
  return { place: () => rename(beside, path), discard };
}
