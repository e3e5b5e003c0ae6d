import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { pvbusError } from "../../base/errors.js";
import { fromSystemError, isSystemError } from "../../base/system-error.js";

/** Files of a seed by their names. */
export type SeedFiles = Readonly<Record<string, Uint8Array>>;

/** What was done: nothing where the same seed was there. */
export type SeedOutcome = "written" | "unchanged";

const PRIVATE = 0o600;
/** A seed of ours is no larger than all kinds together. */
const MAX_FILES = 16;

/**
 * Writes a directory as a whole: readers see the old one or the new one. What somebody else has written, or changed, stays: a
 * marker beside the directory names what is ours.
 * @throws PvbusError `ERR_CONFLICT` for a directory that is not ours; `ERR_PERMISSION`, `ERR_NO_SPACE`, `ERR_READ_ONLY`
 */
export async function writeSeedDirectory(directory: string, files: SeedFiles): Promise<SeedOutcome> {
  const path = resolve(directory);
  try {
    return await write(path, files);
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot write the seed ${path}` });
  }
}

async function write(path: string, files: SeedFiles): Promise<SeedOutcome> {
  const parent = dirname(path);
  const marker = join(parent, `.${basename(path)}.pvbus`);
  const wanted = digestOf(new Map(Object.entries(files)));
  await mkdir(parent, { recursive: true });
  const present = await presentDigest(path);
  if (present !== undefined && !(await ours(marker)).includes(present))
    throw pvbusError(
      "ERR_CONFLICT",
      `${path} holds a seed that pvbus did not write, or that was changed since; move it away to have it written`,
    );
  if (present === wanted) return "unchanged";
  await removeRooms(parent, `${basename(marker)}-`);
  // Before the change: whoever is killed in it finds that both are ours.
  await writeMarker(marker, present === undefined ? [wanted] : [present, wanted]);
  const room = await mkdtemp(`${marker}-`);
  try {
    const made = join(room, "new");
    await mkdir(made, { mode: 0o700 });
    for (const [name, content] of Object.entries(files)) await writeDurably(join(made, name), content);
    await syncDirectory(made);
    if (present !== undefined) await rename(path, join(room, "old"));
    await rename(made, path);
    await syncDirectory(parent);
  } finally {
    await rm(room, { recursive: true, force: true });
  }
  await writeMarker(marker, [wanted]);
  return "written";
}

/** A writer that was killed has left a room behind, with secrets in it. */
async function removeRooms(parent: string, front: string): Promise<void> {
  for (const name of await readdir(parent))
    if (name.startsWith(front)) await rm(join(parent, name), { recursive: true, force: true });
}

/** Returns what is there, as one number; undefined for nothing, or an empty directory. @throws PvbusError for what is no seed */
async function presentDigest(path: string): Promise<string | undefined> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return undefined;
    throw error;
  }
  if (names.length === 0) return undefined;
  const files = new Map<string, Uint8Array>();
  for (const name of names.slice(0, MAX_FILES + 1)) {
    try {
      files.set(name, await readFile(join(path, name)));
    } catch (error) {
      if (!isSystemError(error) || error.code !== "EISDIR") throw error;
      return "a directory inside";
    }
  }
  return digestOf(files);
}

function digestOf(files: ReadonlyMap<string, Uint8Array>): string {
  const whole = createHash("sha256");
  for (const name of [...files.keys()].sort())
    whole.update(
      `${JSON.stringify(name)} ${createHash("sha256")
        .update(files.get(name) ?? "")
        .digest("hex")}\n`,
    );
  return whole.digest("hex");
}

async function ours(marker: string): Promise<readonly string[]> {
  try {
    return (await readFile(marker, "latin1")).split("\n");
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return [];
    throw error;
  }
}

async function writeMarker(marker: string, digests: readonly string[]): Promise<void> {
  const made = `${marker}.new`;
  await rm(made, { force: true });
  await writeDurably(made, Buffer.from(`${digests.join("\n")}\n`));
  await rename(made, marker);
}

async function writeDurably(path: string, content: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", PRIVATE);
  await file.writeFile(content);
  await file.sync();
}

async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return;
  await using directory = await open(path, "r");
  await directory.sync();
}
