import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { pvbusError } from "../../../src/bus/errors.js";
import { fromSystemError } from "../../../src/bus/system-error.js";
import {
  decodeHeader,
  decodeLog,
  encodeHeader,
  encodeRecord,
  HEADER_BYTES,
  type LogRecord,
  MARK_BYTES,
} from "./log-codec.js";

const CHUNK_BYTES = 256 * 1024;

/** A change on its way to the log, which numbers the writes itself. */
export type Change = Omit<LogRecord, "batch">;

/** What a log held when it was opened. */
export interface OpenedLog {
  /** The log, ready for more. */
  readonly log: LogFile;
  /** Its changes, in order; the values are views of one buffer. */
  readonly records: readonly LogRecord[];
  /** The highest revision ever given. */
  readonly revision: number;
  /** Bytes of a write that never ended, cut off. */
  readonly unfinishedBytes: number;
}

/**
 * The append-only file behind one guest's state. What {@link LogFile.append} and {@link LogFile.rewrite} resolve for is on the
 * disk; when they reject, none of it is, as far as any later reader can tell. One call at a time; one process at a time, which
 * the state directory's lock sees to.
 */
export class LogFile {
  readonly #path: string;
  #file: FileHandle;
  #mark: Uint8Array;
  #batch: number;
  #bytes: number;
  /** The disk's answer to the last write leaves open what the file holds: nothing may follow it. */
  #suspect = false;

  private constructor(path: string, file: FileHandle, mark: Uint8Array, batch: number, bytes: number) {
    this.#path = path;
    this.#file = file;
    this.#mark = mark;
    this.#batch = batch;
    this.#bytes = bytes;
  }

  /**
   * Opens a log, making an empty one where there is none.
   * @throws PvbusError `ERR_CORRUPT` when what was on the disk once cannot be read any more; the file stays as it is
   */
  static async open(path: string): Promise<OpenedLog> {
    const bytes = await readIfThere(path);
    if (bytes === undefined) {
      const { file, mark, length } = await replaceFile(path, [], 0);
      await syncName(path);
      return { log: new LogFile(path, file, mark, 1, length), records: [], revision: 0, unfinishedBytes: 0 };
    }
    const header = decodeHeader(bytes);
    if (header === undefined) throw corrupt(path, 0, "does not begin with a header of this version");
    const { records, goodBytes, tail } = decodeLog(bytes, header);
    if (tail === "damaged") throw corrupt(path, goodBytes, "holds a record whose checksum is wrong");
    if (tail === "foreign") throw corrupt(path, goodBytes, "holds a record whose numbers are wrong");
    const file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
    try {
      if (tail === "unfinished") {
        await file.truncate(goodBytes);
        await file.datasync();
      }
    } catch (error) {
      await file.close();
      throw failure(path, error);
    }
    const last = records.at(-1);
    return {
      log: new LogFile(path, file, header.mark, last?.batch ?? 1, goodBytes),
      records,
      revision: Math.max(header.revision, last?.revision ?? 0),
      unfinishedBytes: bytes.length - goodBytes,
    };
  }

  /** Length of the file. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the next write must be a {@link LogFile.rewrite}: the disk failed in a way that leaves the file in doubt. */
  get suspect(): boolean {
    return this.#suspect;
  }

  /**
   * Puts changes at the end, all in one write.
   * @param turn asked before each of them is encoded
   * @throws PvbusError `ERR_NO_SPACE`, `ERR_UNAVAILABLE`
   */
  async append(
    changes: readonly Change[],
    turn: () => Promise<void> | undefined = () => undefined,
  ): Promise<void> {
    const batch = this.#batch + 1;
    const parts: Buffer[] = [];
    for (const change of changes) {
      await turn();
      parts.push(encodeRecord(this.#mark, { ...change, batch }));
    }
    try {
      await writeAll(this.#file, parts, this.#bytes);
      await this.#file.datasync();
    } catch (error) {
      await this.#takeBack();
      throw failure(this.#path, error);
    }
    this.#batch = batch;
    for (const { length } of parts) this.#bytes += length;
  }

  /**
   * Replaces the file by one that holds these changes alone; the old one stands until the new one is on the disk.
   * @throws PvbusError `ERR_NO_SPACE`, `ERR_UNAVAILABLE`
   */
  async rewrite(live: Iterable<Change>, revision: number): Promise<void> {
    const path = this.#path;
    const { file, mark, length } = await replaceFile(path, live, revision);
    const old = this.#file;
    this.#file = file;
    this.#mark = mark;
    this.#batch = 1;
    this.#bytes = length;
    this.#suspect = true;
    await old.close();
    await syncName(path);
    this.#suspect = false;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Cuts off what a failed write may have left, so that nobody finds later what was refused. */
  async #takeBack(): Promise<void> {
    try {
      await this.#file.truncate(this.#bytes);
      await this.#file.datasync();
    } catch {
      this.#suspect = true;
    }
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path, { flag: constants.O_RDONLY | constants.O_NOFOLLOW });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw failure(path, error);
  }
}

/** Writes a whole log beside its place and moves it there. */
async function replaceFile(
  path: string,
  live: Iterable<Change>,
  revision: number,
): Promise<{ file: FileHandle; mark: Uint8Array; length: number }> {
  const beside = `${path}.new`;
  const mark = randomBytes(MARK_BYTES);
  let file: FileHandle | undefined;
  try {
    // A leftover is of a run that ended before the move.
    await rm(beside, { force: true });
    file = await open(beside, "wx+", 0o600);
    let length = HEADER_BYTES;
    for (const parts of chunks(live, mark)) length += await writeAll(file, parts, length);
    await writeAll(file, [encodeHeader({ mark, revision, length })], 0);
    await file.datasync();
    await rename(beside, path);
    return { file, mark, length };
  } catch (error) {
    await file?.close();
    await rm(beside, { force: true }).catch(() => undefined);
    throw failure(path, error);
  }
}

/** Gives records in portions, so that neither each of them costs a call nor all of them stop the other guests. */
function* chunks(live: Iterable<Change>, mark: Uint8Array): Generator<Buffer[]> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for (const change of live) {
    const part = encodeRecord(mark, { ...change, batch: 1 });
    parts.push(part);
    bytes += part.length;
    if (bytes < CHUNK_BYTES) continue;
    yield parts;
    parts = [];
    bytes = 0;
  }
  if (parts.length > 0) yield parts;
}

/** Writes buffers one behind the other, however many calls it takes; gives their length. */
async function writeAll(file: FileHandle, parts: readonly Uint8Array[], position: number): Promise<number> {
  let length = 0;
  for (const part of parts) length += part.length;
  let { bytesWritten: done } = await file.writev(parts as Uint8Array[], position);
  if (done === length) return length;
  // Rare, and small or on a disk that is full.
  const bytes = Buffer.concat(parts);
  while (done < length) {
    const { bytesWritten } = await file.write(bytes, done, length - done, position + done);
    done += bytesWritten;
  }
  return length;
}

/** Brings a file's new name to the disk, which its directory holds. */
async function syncName(path: string): Promise<void> {
  try {
    await syncDirectory(dirname(path));
  } catch (error) {
    throw failure(path, error);
  }
}

/** Brings a directory's entries to the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function failure(path: string, error: unknown): unknown {
  return fromSystemError(error, { doing: `cannot keep the state in ${path}` });
}

function corrupt(path: string, offset: number, what: string): unknown {
  return pvbusError(
    "ERR_CORRUPT",
    `${path} ${what} (offset ${offset}); restore it from a backup, or move it away and this guest begins empty`,
  );
}
