import {
  decodeRecord,
  encodeKeyField,
  encodeValueField,
  fieldEnd,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  HV_KVP_EXCHANGE_MAX_VALUE_SIZE,
  RECORD_SIZE,
  scrubRecord,
} from "./codec.js";

/*
 * Changes of a pool file that leave every record readable when the writer is killed between any two of its steps or
 * inside one. What they rely on: a kill ends a write to a regular file between two pages, never inside one, and
 * pages are written in ascending order. A key field never crosses a page border (its offsets modulo 4096 end at
 * 4096 at the latest); three value fields of eight do.
 */

/** Smallest page size in use; larger ones are multiples. */
const PAGE = 4096;
/** Records moved in one step when a gap is closed. */
const RECORDS_PER_MOVE = 96;

/** The bytes of a pool file under an exclusive lock. */
export interface PoolBytes {
  /** Current length. */
  readonly size: number;
  /** Fills the buffer from the offset. */
  read(into: Buffer, offset: number): void;
  /** Writes all bytes at the offset, or throws. */
  write(bytes: Uint8Array, offset: number): void;
  /** Shortens the file. */
  truncate(size: number): void;
}

/** Gives the end of the last whole record; what follows is a torn tail, which counts for nothing. */
export function wholeRecords(size: number): number {
  return size - (size % RECORD_SIZE);
}

/**
 * Appends a record: torn tail cut, value half first, key half last, so that an unfinished one is an unused slot.
 * A failure leaves the file as it was.
 * @returns the record's offset
 */
export function appendRecord(pool: PoolBytes, key: Uint8Array, value: Uint8Array): number {
  const offset = wholeRecords(pool.size);
  if (pool.size !== offset) pool.truncate(offset);
  try {
    pool.write(encodeValueField(value), offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE);
    pool.write(encodeKeyField(key), offset);
  } catch (error) {
    pool.truncate(offset);
    throw error;
  }
  return offset;
}

/** Fills the unused slot at an offset, value half first. */
export function fillSlot(pool: PoolBytes, offset: number, key: Uint8Array, value: Uint8Array): void {
  pool.write(encodeValueField(value), offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE);
  pool.write(encodeKeyField(key), offset);
}

/**
 * Gives the record at an offset a new value in place. Where the value's text crosses a page border and so could
 * tear, a second record with the new value stands at the end of the file meanwhile: the last duplicate wins.
 */
export function updateRecord(pool: PoolBytes, offset: number, key: Uint8Array, value: Uint8Array): void {
  const valueAt = offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  const field = encodeValueField(value);
  const firstPart = bytesBeforeBorder(valueAt);
  if (!couldTear(pool, offset, value)) {
    pool.write(field.subarray(0, firstPart), valueAt);
    if (firstPart < field.length) pool.write(field.subarray(firstPart), valueAt + firstPart);
    pool.write(encodeKeyField(key), offset);
    return;
  }
  const standIn = appendRecord(pool, key, value);
  pool.write(field, valueAt);
  pool.write(encodeKeyField(key), offset);
  pool.truncate(standIn);
}

/** Gives how many bytes of a value field lie before the next page border. */
function bytesBeforeBorder(valueAt: number): number {
  return Math.min(PAGE - (valueAt % PAGE), HV_KVP_EXCHANGE_MAX_VALUE_SIZE);
}

/** Tells whether a kill could leave the value of a record half old and half new. */
function couldTear(pool: PoolBytes, offset: number, value: Uint8Array): boolean {
  const valueAt = offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  const old = Buffer.alloc(HV_KVP_EXCHANGE_MAX_VALUE_SIZE);
  pool.read(old, valueAt);
  return Math.max(fieldEnd(old, 0, old.length), value.length) + 1 > bytesBeforeBorder(valueAt);
}

/**
 * Ends an {@link updateRecord} that was killed: where the last record is the stand-in of an earlier one, that one gets
 * its value and the stand-in goes. What readers see, the last duplicate's value, stays the same at every instant.
 * @returns whether there was one
 */
export function finishUpdate(pool: PoolBytes, offset: number, last: number): boolean {
  const standIn = Buffer.alloc(RECORD_SIZE);
  pool.read(standIn, last);
  const { value } = decodeRecord(standIn);
  if (value.length === HV_KVP_EXCHANGE_MAX_VALUE_SIZE || !couldTear(pool, offset, value)) return false;
  pool.write(encodeValueField(value), offset + HV_KVP_EXCHANGE_MAX_KEY_SIZE);
  pool.truncate(last);
  return true;
}

/**
 * Removes records by moving the later ones down in order, tails zeroed, and shortening the file. While it runs the
 * slot being overwritten has the key of a record that still stands whole further on, so a kill leaves duplicates
 * with equal values, never a loss.
 * @param offsets of the records to remove, ascending
 * @yields after each step, so that the caller can let others run
 */
export function* removeRecords(
  pool: PoolBytes,
  offsets: readonly number[],
): Generator<void, void, undefined> {
  const end = wholeRecords(pool.size);
  const buffer = Buffer.alloc(RECORDS_PER_MOVE * RECORD_SIZE);
  let target = offsets[0] ?? end;
  for (const [index, removed] of offsets.entries()) {
    const next = offsets[index + 1] ?? end;
    for (let source = removed + RECORD_SIZE; source < next; ) {
      const chunk = buffer.subarray(0, Math.min(buffer.length, next - source));
      pool.read(chunk, source);
      for (let at = 0; at < chunk.length; at += RECORD_SIZE) scrubRecord(chunk, at);
      pool.write(chunk, target);
      target += chunk.length;
      source += chunk.length;
      yield;
    }
  }
  pool.truncate(target);
}

/**
 * Zeroes what follows the strings of every record, in place; the records themselves do not change.
 * @yields after each step
 */
export function* scrubTails(pool: PoolBytes): Generator<void, void, undefined> {
  const end = wholeRecords(pool.size);
  const buffer = Buffer.alloc(RECORDS_PER_MOVE * RECORD_SIZE);
  for (let offset = 0; offset < end; offset += buffer.length) {
    const chunk = buffer.subarray(0, Math.min(buffer.length, end - offset));
    pool.read(chunk, offset);
    for (let at = 0; at < chunk.length; at += RECORD_SIZE) {
      if (scrubRecord(chunk, at)) pool.write(chunk.subarray(at, at + RECORD_SIZE), offset + at);
    }
    yield;
  }
  if (pool.size !== end) pool.truncate(end);
}
