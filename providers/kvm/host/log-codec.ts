import { crc32 } from "../../../src/base/crc32.js";

/*
 * The log of one guest: a header, then records, little-endian throughout.
 *
 *   header   0  "pvbuslog"        8 bytes
 *            8  version = 1       u32
 *           12  mark              8 bytes, random for each file
 *           20  revision          u64: the highest one when the file was made
 *           28  length            u64: of the file when it was made; all of that was on the disk before it had its name
 *           36  CRC-32 of 0..35   u32
 *
 *   record   0  mark              8 bytes, the header's
 *            8  body length       u32
 *           12  CRC-32 of body    u32
 *           16  body: batch u48, revision u48, operation u8, key length u16, key (UTF-8), value
 *
 * All records of one write share a batch number, one more than that of the write before, and a write begins only when the
 * one before is on the disk. The mark is unknown to guests, so no value can look like a record.
 */

/** Highest revision and batch number: records have 48 bits for each. */
export const MAX_REVISION = 2 ** 48 - 1;

export interface LogRecord {
  /** Number of the write that brought it to the disk. */
  readonly batch: number;
  /** Number of the change, growing by one with each. */
  readonly revision: number;
  readonly operation: "put" | "delete";
  readonly key: string;
  /** The value; empty for a delete. */
  readonly value: Uint8Array;
}

/** A stretch of a log in which nothing is a record. */
export interface LogGap {
  readonly offset: number;
  /** Its length; what is missing at the end of the file counts. */
  readonly bytes: number;
  /** Numbers of the changes that stood there, where they are known. */
  readonly revisions: { readonly first: number; readonly last: number } | undefined;
}

/** What is known to have been on the disk. */
export interface Settled {
  readonly length: number;
  readonly revision: number;
}

/** What a log's bytes hold. */
export interface LogContents {
  /** The records, in order; of a damaged log those behind the damage too. */
  readonly records: readonly LogRecord[];
  /** Bytes from the start that are whole records. */
  readonly goodBytes: number;
  /**
   * Behind the good bytes: nothing; what a kill or a power cut leaves of a write, which nobody was told of; anything else, so that
   * what was on the disk is damaged; or a whole record that no host of ours wrote there.
   */
  readonly tail: "none" | "unfinished" | "damaged" | "foreign";
  readonly lost: readonly LogGap[];
}

const VERSION = 1;
/** What a power cut leaves of a write: blocks of at least that size, each of them written or all zeros. */
const BLOCK_BYTES = 512;
/** So many zeros are no accident. */
const LEAST_ZEROS = 8;
export const MARK_BYTES = 8;
export const HEADER_BYTES = 40;
const RECORD_HEADER_BYTES = 16;
const BODY_HEADER_BYTES = 15;
const OPERATIONS = ["put", "delete"] as const;

/** What a log's header tells. */
export interface LogHeader {
  readonly mark: Uint8Array;
  readonly revision: number;
  readonly length: number;
}

export const LOG_HEADER = figuresBehind("pvbuslog");
/**
 * What is kept beside a log that was closed: its length and highest revision then. With it a file that was cut later, even between
 * two records, is known from one that ended there.
 */
export const LOG_END = figuresBehind("pvbusend");

/** @returns a codec, which reads anything else than this version's figures as undefined */
function figuresBehind(magic: string) {
  return {
    encode({ mark, revision, length }: LogHeader): Buffer {
      const header = Buffer.alloc(HEADER_BYTES);
      header.write(magic);
      header.writeUInt32LE(VERSION, 8);
      header.set(mark, 12);
      header.writeBigUInt64LE(BigInt(revision), 20);
      header.writeBigUInt64LE(BigInt(length), 28);
      header.writeUInt32LE(crc32(header.subarray(0, 36)), 36);
      return header;
    },
    decode(bytes: Buffer): LogHeader | undefined {
      if (bytes.length < HEADER_BYTES || bytes.toString("latin1", 0, 8) !== magic) return undefined;
      if (bytes.readUInt32LE(8) !== VERSION) return undefined;
      if (bytes.readUInt32LE(36) !== crc32(bytes.subarray(0, 36))) return undefined;
      const [revision, length] = [Number(bytes.readBigUInt64LE(20)), Number(bytes.readBigUInt64LE(28))];
      if (revision > MAX_REVISION || length < HEADER_BYTES || length > Number.MAX_SAFE_INTEGER)
        return undefined;
      return { mark: Buffer.from(bytes.subarray(12, 20)), revision, length };
    },
  };
}

export function recordBytes(key: string, value: Uint8Array): number {
  return RECORD_HEADER_BYTES + BODY_HEADER_BYTES + Buffer.byteLength(key) + value.length;
}

export function encodeRecord(mark: Uint8Array, record: LogRecord): Buffer {
  const { batch, revision, operation, key, value } = record;
  const keyBytes = Buffer.byteLength(key);
  const bytes = Buffer.allocUnsafe(RECORD_HEADER_BYTES + BODY_HEADER_BYTES + keyBytes + value.length);
  bytes.set(mark);
  bytes.writeUInt32LE(bytes.length - RECORD_HEADER_BYTES, 8);
  bytes.writeUIntLE(batch, 16, 6);
  bytes.writeUIntLE(revision, 22, 6);
  bytes.writeUInt8(OPERATIONS.indexOf(operation), 28);
  bytes.writeUInt16LE(keyBytes, 29);
  bytes.write(key, 31);
  bytes.set(value, 31 + keyBytes);
  bytes.writeUInt32LE(crc32(bytes.subarray(RECORD_HEADER_BYTES)), 12);
  return bytes;
}

/** Returns the record at an offset with its end; undefined when there is no whole one. */
function recordAt(
  bytes: Buffer,
  mark: Uint8Array,
  offset: number,
): { record: LogRecord; end: number } | undefined {
  if (bytes.length - offset < RECORD_HEADER_BYTES + BODY_HEADER_BYTES) return undefined;
  if (!bytes.subarray(offset, offset + MARK_BYTES).equals(mark)) return undefined;
  const end = offset + RECORD_HEADER_BYTES + bytes.readUInt32LE(offset + 8);
  const body = bytes.subarray(offset + RECORD_HEADER_BYTES, end);
  if (end > bytes.length || body.length < BODY_HEADER_BYTES) return undefined;
  if (bytes.readUInt32LE(offset + 12) !== crc32(body)) return undefined;
  const operation = OPERATIONS[body.readUInt8(12)];
  const valueAt = BODY_HEADER_BYTES + body.readUInt16LE(13);
  if (operation === undefined || valueAt > body.length) return undefined;
  const record: LogRecord = {
    batch: body.readUIntLE(0, 6),
    revision: body.readUIntLE(6, 6),
    operation,
    key: body.toString("utf8", BODY_HEADER_BYTES, valueAt),
    value: body.subarray(valueAt),
  };
  return { record, end };
}

/** Reads a log behind its header; the values are views of `bytes`. @param settled what is known to have been on the disk */
export function decodeLog(bytes: Buffer, header: LogHeader, settled: Settled = header): LogContents {
  const { mark, length } = header;
  const records: LogRecord[] = [];
  let offset = HEADER_BYTES;
  let last: LogRecord | undefined;
  for (;;) {
    const found = recordAt(bytes, mark, offset);
    if (found === undefined) break;
    const { record, end } = found;
    const follows = end <= length ? isRewritten(record, header) : isNext(record, last);
    if (!follows || record.key === "") return { records, goodBytes: offset, tail: "foreign", lost: [] };
    records.push(record);
    if (end > length) last = record;
    offset = end;
  }
  const goodBytes = offset;
  const ends = Math.max(bytes.length, length, settled.length);
  if (goodBytes === ends) return { records, goodBytes, tail: "none", lost: [] };
  const lost: LogGap[] = [];
  const lose = (to: number, next: number): void => {
    if (to === offset) return;
    const first = (last?.revision ?? header.revision) + 1;
    const revisions = offset >= length && first < next ? { first, last: next - 1 } : undefined;
    lost.push({ offset, bytes: to - offset, revisions });
  };
  for (let at = bytes.indexOf(mark, offset); at >= 0; at = bytes.indexOf(mark, at)) {
    const found = recordAt(bytes, mark, at);
    if (found === undefined || !isLater(found, header, last)) {
      at++;
      continue;
    }
    const { record, end } = found;
    lose(at, record.revision);
    records.push(record);
    if (end > length) last = record;
    offset = at = end;
  }
  const isSettled = goodBytes < Math.max(length, settled.length);
  if (lost.length === 0 && !isSettled && isTorn(bytes, mark, goodBytes))
    return { records, goodBytes, tail: "unfinished", lost };
  lose(ends, settled.revision + 1);
  return { records, goodBytes, tail: "damaged", lost };
}

/** Reports whether a record is one of those with which a file was made: one write, of changes that had been before. */
function isRewritten({ batch, revision }: LogRecord, header: LogHeader): boolean {
  return batch === 1 && revision > 0 && revision <= header.revision;
}

/**
 * Reports whether a record may come behind another one, or as the first one behind those with which the file was made: there the
 * revision may be lower than the header's, which earlier versions forgot when they opened a file.
 */
function isNext({ batch, revision }: LogRecord, last: LogRecord | undefined): boolean {
  const before = last?.batch ?? 1;
  return (
    (batch === before || batch === before + 1) &&
    batch > 1 &&
    batch < MAX_REVISION &&
    revision > (last?.revision ?? 0)
  );
}

/** Reports whether a record that lies somewhere behind damage comes after all that were read. */
function isLater(
  { record, end }: { readonly record: LogRecord; readonly end: number },
  header: LogHeader,
  last: LogRecord | undefined,
): boolean {
  const { batch, revision, key } = record;
  if (key === "") return false;
  if (end <= header.length) return isRewritten(record, header);
  return batch >= (last?.batch ?? 2) && batch < MAX_REVISION && revision > (last?.revision ?? 0);
}

/**
 * Reports whether what lies at an offset can be the rest of a write that was cut by a kill or a power cut: its beginning, or all of it
 * with blocks that never came to the disk, which hold zeros. Bytes that changed are something else.
 */
function isTorn(bytes: Buffer, mark: Uint8Array, offset: number): boolean {
  const rest = bytes.subarray(offset);
  const front = rest.subarray(0, MARK_BYTES);
  if (isZero(rest.subarray(0, BLOCK_BYTES - (offset % BLOCK_BYTES)))) return true;
  if (!front.equals(mark.subarray(0, front.length))) return false;
  if (rest.length < RECORD_HEADER_BYTES + BODY_HEADER_BYTES) return true;
  const length = rest.readUInt32LE(8);
  if (length < BODY_HEADER_BYTES) return false;
  const body = rest.subarray(RECORD_HEADER_BYTES, RECORD_HEADER_BYTES + length);
  const isRight = crc32(body) === rest.readUInt32LE(12);
  // With fewer bytes than announced and their checksum right, it is the length that is wrong.
  if (isRight || body.length < length) return !isRight;
  for (let at = BLOCK_BYTES - (offset % BLOCK_BYTES); at < rest.length; at += BLOCK_BYTES) {
    const block = rest.subarray(at, at + BLOCK_BYTES);
    if (block.length >= LEAST_ZEROS && isZero(block)) return true;
  }
  return false;
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}
