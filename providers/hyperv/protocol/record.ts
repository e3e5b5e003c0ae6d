/**
 * The record of Hyper-V's pool files: an array of 2560-byte records without header, trailer or checksum.
 *
 * | offset | size | field |
 * | --- | --- | --- |
 * | 0 | 512 | key, UTF-8, ends at its first NUL |
 * | 512 | 2048 | value, UTF-8, ends at its first NUL |
 *
 * What follows the NUL is whatever the writer had in memory and is normal in genuine files; a field without a NUL is
 * its whole length. Source: Linux tools/hv/hv_kvp_daemon.c, include/uapi/linux/hyperv.h.
 */

/** Bytes of the key field, NUL included (Linux include/uapi/linux/hyperv.h). */
export const HV_KVP_EXCHANGE_MAX_KEY_SIZE = 512;
/** Bytes of the value field, NUL included (Linux include/uapi/linux/hyperv.h). */
export const HV_KVP_EXCHANGE_MAX_VALUE_SIZE = 2048;
/** Bytes of one record. */
export const RECORD_SIZE = HV_KVP_EXCHANGE_MAX_KEY_SIZE + HV_KVP_EXCHANGE_MAX_VALUE_SIZE;

const ZEROS = Buffer.alloc(HV_KVP_EXCHANGE_MAX_VALUE_SIZE);

/** Stands behind the NULs of a pair of an empty key and value, as the host may set one: else it would be a slot that was not filled. */
const EMPTY_PAIR_MARK = Buffer.from("\0pvbus-empty-pair\0", "latin1");

/** One record: the bytes before each field's first NUL. */
export interface PoolRecord {
  /** Key bytes; empty: the slot is not in use. */
  readonly key: Uint8Array;
  /** Value bytes. */
  readonly value: Uint8Array;
}

/** Returns where the string of a field ends: the offset of its first NUL, or the field's end. */
export function fieldEnd(bytes: Uint8Array, start: number, size: number): number {
  const end = bytes.indexOf(0, start);
  return end < 0 || end > start + size ? start + size : end;
}

/**
 * Decodes the record at an offset; any 2560 bytes decode.
 * @returns views into `bytes`, no copies
 * @throws RangeError when fewer than 2560 bytes follow
 */
export function decodeRecord(bytes: Uint8Array, offset = 0): PoolRecord {
  if (offset < 0 || offset + RECORD_SIZE > bytes.length) throw new RangeError("a record has 2560 bytes");
  return {
    key: bytes.subarray(offset, fieldEnd(bytes, offset, HV_KVP_EXCHANGE_MAX_KEY_SIZE)),
    value: decodeValue(bytes, offset),
  };
}

/** Returns the value of the record at an offset, a view as with {@link decodeRecord}. */
export function decodeValue(bytes: Uint8Array, offset: number): Uint8Array {
  const valueAt = offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  return bytes.subarray(valueAt, fieldEnd(bytes, valueAt, HV_KVP_EXCHANGE_MAX_VALUE_SIZE));
}

/** Returns a key's bytes in Latin-1: text that no two byte strings share. */
export function keyName(key: Uint8Array): string {
  const bytes = Buffer.isBuffer(key) ? key : Buffer.from(key.buffer, key.byteOffset, key.length);
  return bytes.toString("latin1");
}

/** Encodes a key or a value into its field, zero-filled. @throws RangeError when it does not fit with its NUL or holds one */
export function encodeField(content: Uint8Array, size: number): Buffer {
  if (content.length >= size) throw new RangeError(`${content.length} bytes and a NUL do not fit ${size}`);
  if (content.includes(0)) throw new RangeError("the field would end at the NUL inside it");
  const field = Buffer.alloc(size);
  field.set(content);
  return field;
}

/** Encodes a whole record, zero-filled. @throws RangeError when a part does not fit with its NUL or holds one */
export function encodeRecord({ key, value }: PoolRecord): Buffer {
  const record = Buffer.concat([
    encodeField(key, HV_KVP_EXCHANGE_MAX_KEY_SIZE),
    encodeField(value, HV_KVP_EXCHANGE_MAX_VALUE_SIZE),
  ]);
  if (key.length === 0 && value.length === 0) EMPTY_PAIR_MARK.copy(record, HV_KVP_EXCHANGE_MAX_KEY_SIZE);
  return record;
}

/** Reports whether a slot was made and not filled: both its strings are empty, and nobody has set them so. */
export function isUnfilled(bytes: Uint8Array, at = 0): boolean {
  const valueAt = at + HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  return bytes[at] === 0 && bytes[valueAt] === 0 && !isMarked(bytes, valueAt);
}

function isMarked(bytes: Uint8Array, valueAt: number): boolean {
  return EMPTY_PAIR_MARK.equals(bytes.subarray(valueAt, valueAt + EMPTY_PAIR_MARK.length));
}

/** Zeroes what follows the strings of the record at an offset. @returns whether there was anything but zeros */
export function scrubRecord(bytes: Uint8Array, offset = 0): boolean {
  const valueAt = offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  let end = fieldEnd(bytes, valueAt, HV_KVP_EXCHANGE_MAX_VALUE_SIZE);
  if (bytes[offset] === 0 && isMarked(bytes, valueAt)) end += EMPTY_PAIR_MARK.length;
  const behindKey = zero(bytes.subarray(fieldEnd(bytes, offset, HV_KVP_EXCHANGE_MAX_KEY_SIZE), valueAt));
  return zero(bytes.subarray(end, offset + RECORD_SIZE)) || behindKey;
}

function zero(tail: Uint8Array): boolean {
  const isZero = Buffer.compare(tail, ZEROS.subarray(0, tail.length)) === 0;
  if (!isZero) tail.fill(0);
  return !isZero;
}

/*
 * Where the records of a pool file lie on its pages. A page is what reaches the page cache, or the disk, whole or not
 * at all; a write that spans several can stop between two of them. A key field never spans two pages (offsets are
 * multiples of 512 and a record's first 512 bytes end at a multiple of 512).
 */

/** Smallest page size in use; larger ones are multiples. */
const PAGE = 4096;

/** Returns the end of the last whole record; what follows is a torn tail, which counts for nothing. */
export function wholeRecords(size: number): number {
  return size - (size % RECORD_SIZE);
}

/** Returns where the page border lies inside a record at an offset, in bytes from its start; undefined: on one page. */
export function borderIn(offset: number): number | undefined {
  const border = PAGE - (offset % PAGE);
  return border < RECORD_SIZE ? border : undefined;
}

/** Whether the border separates the key from the value: the value alone is on the second page. */
export function splitsKeyFromValue(border: number | undefined): boolean {
  return border === HV_KVP_EXCHANGE_MAX_KEY_SIZE;
}

/** Whether the pair of a record is complete on the page of its key, the NUL behind the value included. */
export function isDecidedBefore(border: number, record: Uint8Array, at = 0): boolean {
  const valueAt = at + HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  return fieldEnd(record, valueAt, HV_KVP_EXCHANGE_MAX_VALUE_SIZE) - at < border;
}

/** Whether the key is empty, which makes the slot one that is not in use. */
export function isUnused(bytes: Uint8Array, at = 0): boolean {
  return bytes[at] === 0;
}

/** Zeroes what follows the strings of every record of a chunk. */
export function scrubRecords(chunk: Uint8Array): void {
  for (let at = 0; at < chunk.length; at += RECORD_SIZE) scrubRecord(chunk, at);
}
