import {
  fieldEnd,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  HV_KVP_EXCHANGE_MAX_VALUE_SIZE,
  RECORD_SIZE,
  scrubRecord,
} from "./codec.js";

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
