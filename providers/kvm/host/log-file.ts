import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { pvbusError } from "../../../src/base/errors.js";
import {
  endOf,
  failure,
  keepDamaged,
  type LogDamage,
  readIfThere,
  syncDirectory,
  unknownChanges,
  writeEnd,
} from "./kept-logs.js";
import {
  decodeLog,
  encodeRecord,
  HEADER_BYTES,
  LOG_END,
  LOG_HEADER,
  type LogHeader,
  type LogRecord,
  MARK_BYTES,
  MAX_REVISION,
} from "./log-codec.js";

const CHUNK_BYTES = 256 * 1024;
/** Room that is kept beside a log, so that there is some for deletes when the disk is full: a block for data and one for more. */
const RESERVE_BYTES = 8192;
/** A change on its way to the log, which numbers the writes itself. */
export type Change = Omit<LogRecord, "batch">;

export interface OpenedLog {
  readonly log: LogFile;
  /** Its changes, in order; the values are views of one buffer. */
  readonly records: readonly LogRecord[];
  /** The highest revision ever given. */
  readonly revision: number;
  /** Bytes of a write that never ended, cut off. */
  readonly unfinishedBytes: number;
  /** What the log has lost, where it was damaged. It is not written to before it has been replaced. */
  readonly damage: LogDamage | undefined;
}

/**
 * The append-only file behind one guest's state. What {@link LogFile.append} and {@link LogFile.rewrite} resolve for is on the
 * disk; when they reject, none of it is, as far as any later reader can tell. One call at a time; one process at a time, which
 * the state directory's lock sees to.
 */
export class LogFile {
  readonly #path: string;
  #file: FileHandle;
  #batch: number;
  /** Its mark, and what is on the disk of it. */
  #end: LogHeader;
  #hasReserve = false;
  /** The disk's answer to the last write leaves open what the file holds, or it was damaged: nothing may follow it. */
  #suspect = false;

  private constructor(path: string, file: FileHandle, end: LogHeader, batch: number) {
    this.#path = path;
    this.#file = file;
    this.#end = end;
    this.#batch = batch;
  }

  /** A damaged log is kept beside. @throws PvbusError `ERR_CORRUPT` when it is no log, or holds what no host wrote; it stays as it is */
  static async open(path: string): Promise<OpenedLog> {
    const bytes = await readIfThere(path);
    if (bytes === undefined) {
      const { file, end } = await replaceFile(path, [], 0);
      await syncName(path);
      const log = new LogFile(path, file, end, 1);
      await log.keepReserve();
      return { log, records: [], revision: 0, unfinishedBytes: 0, damage: undefined };
    }
    const header = LOG_HEADER.decode(bytes);
    if (header === undefined) throw corrupt(path, 0, "does not begin with a header of this version");
    const settled = await endOf(path, header);
    const { records, goodBytes, tail, lost } = decodeLog(bytes, header, settled);
    if (tail === "foreign") throw corrupt(path, goodBytes, "holds a record whose numbers are wrong");
    const last = records.at(-1);
    const revision = Math.max(settled.revision, last?.revision ?? 0) + unknownChanges(lost);
    const damage = tail === "damaged" ? { lost, kept: await keepDamaged(path) } : undefined;
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
    const figures = { mark: header.mark, length: goodBytes, revision: Math.min(revision, MAX_REVISION) };
    const log = new LogFile(path, file, figures, last?.batch ?? 1);
    log.#suspect = damage !== undefined;
    await log.keepReserve();
    const unfinishedBytes = tail === "unfinished" ? bytes.length - goodBytes : 0;
    return { log, records, revision: figures.revision, unfinishedBytes, damage };
  }

  get bytes(): number {
    return this.#end.length;
  }

  /** Whether the next write must be a {@link LogFile.rewrite}: the file was damaged, or the disk failed and leaves it in doubt. */
  get suspect(): boolean {
    return this.#suspect;
  }

  /** Puts changes at the end, all in one write. @param turn asked before each of them is encoded */
  async append(changes: readonly Change[], turn: () => Promise<void> | undefined): Promise<void> {
    const batch = this.#batch + 1;
    const { mark, length, revision } = this.#end;
    const parts: Buffer[] = [];
    for (const change of changes) {
      await turn();
      parts.push(encodeRecord(mark, { ...change, batch }));
    }
    try {
      const written = await writeAll(this.#file, parts, length);
      await this.#file.datasync();
      this.#batch = batch;
      this.#end = { mark, length: length + written, revision: changes.at(-1)?.revision ?? revision };
    } catch (error) {
      await this.#takeBack();
      throw failure(this.#path, error);
    }
  }

  /** Replaces the file by one that holds these changes alone; the old one stands until the new one is on the disk. */
  async rewrite(live: Iterable<Change>, revision: number): Promise<void> {
    const path = this.#path;
    const { file, end } = await replaceFile(path, live, revision);
    const old = this.#file;
    this.#file = file;
    this.#end = end;
    this.#batch = 1;
    this.#suspect = true;
    await old.close();
    await syncName(path);
    this.#suspect = false;
  }

  /** Whether there is room for a delete when the disk is full. */
  get hasReserve(): boolean {
    return this.#hasReserve;
  }

  /** Sets room aside, as far as the disk has any. */
  async keepReserve(): Promise<void> {
    const path = `${this.#path}.reserve`;
    try {
      const { size } = await lstat(path).catch(() => ({ size: 0 }));
      if (size < RESERVE_BYTES) {
        const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;
        await using file = await open(path, flags, 0o600);
        await writeAll(file, [Buffer.alloc(RESERVE_BYTES, 0x70)], 0);
      }
      this.#hasReserve = true;
    } catch {
      // A full disk: later.
    }
  }

  /** Returns that room away. @returns whether there was some */
  async spendReserve(): Promise<boolean> {
    if (!this.#hasReserve) return false;
    this.#hasReserve = false;
    try {
      await rm(`${this.#path}.reserve`);
      return true;
    } catch {
      return false;
    }
  }

  /** Closes the file, and notes where it ended. */
  async close(): Promise<void> {
    await this.#file.close();
    if (!this.#suspect) await writeEnd(this.#path, LOG_END.encode(this.#end));
  }

  /** Cuts off what a failed write may have left, so that nobody finds later what was refused. */
  async #takeBack(): Promise<void> {
    try {
      await this.#file.truncate(this.#end.length);
      await this.#file.datasync();
    } catch {
      this.#suspect = true;
    }
  }
}

/** Writes a whole log in the directory of its path and moves it there. */
async function replaceFile(
  path: string,
  live: Iterable<Change>,
  revision: number,
): Promise<{ file: FileHandle; end: LogHeader }> {
  const beside = `${path}.new`;
  const mark = randomBytes(MARK_BYTES);
  let file: FileHandle | undefined;
  try {
    // A leftover is of a run that ended before the move.
    await rm(beside, { force: true });
    file = await open(beside, "wx+", 0o600);
    let length = HEADER_BYTES;
    for (const parts of chunks(live, mark)) length += await writeAll(file, parts, length);
    const end = { mark, revision, length };
    await writeAll(file, [LOG_HEADER.encode(end)], 0);
    await file.datasync();
    await rename(beside, path);
    return { file, end };
  } catch (error) {
    await file?.close();
    await rm(beside, { force: true }).catch(() => undefined);
    throw failure(path, error);
  }
}

/** Returns records in portions, so that neither each of them costs a call nor all of them stop the other guests. */
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

/** Writes buffers one behind the other, however many calls it takes. @returns their length. */
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

function corrupt(path: string, offset: number, what: string): unknown {
  return pvbusError(
    "ERR_CORRUPT",
    `${path} ${what} (offset ${offset}); restore it from a backup, or move it away and this guest begins empty`,
  );
}
