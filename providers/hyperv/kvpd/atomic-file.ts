import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, unlink } from "node:fs/promises";

/**
 * Puts a file in place whole or not at all, readable by its owner alone: written beside its place, brought to the disk, renamed.
 * A link in its place is replaced, never followed.
 */
export async function writeWhole(path: string, text: string): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString("hex")}`;
  let file: FileHandle | undefined;
  try {
    file = await open(beside, "wx", 0o600);
    await file.writeFile(text);
    await file.sync();
    await file.close();
    file = undefined;
    await rename(beside, path);
  } catch (error) {
    await file?.close();
    await unlink(beside).catch(() => undefined);
    throw error;
  }
}
