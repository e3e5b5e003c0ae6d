import { crc32 } from "../../../src/base/crc32.js";
import { HV_KVP_EXCHANGE_MAX_KEY_SIZE } from "./record.js";

/*
 * The note that stands behind the last record while records move. It lies in a slot of its own, with an empty key and an
 * empty value: behind the value's NUL, where every writer leaves whatever it had. ASCII, since some readers decode the
 * whole field. It lies on one page, so it is there whole or not at all.
 */

/** Where the note begins in its slot. */
export const NOTE_AT = HV_KVP_EXCHANGE_MAX_KEY_SIZE;
/** Bytes that a note takes: from the start of any value field to the next page border there are at least so many. */
export const NOTE_BYTES = 512;
/** Most gaps that surely fit a note. */
export const MAX_GAPS = 24;

const MAGIC = "pvbus-note-1";

/** Slots in a row that are to be closed. */
export interface Gap {
  readonly slot: number;
  readonly count: number;
}

/** What is going on in a pool, for whoever finds it unfinished. */
export interface Note {
  /** First slot that gets another record. */
  readonly at: number;
  /** Number of records that go there; 0: nothing has moved yet. */
  readonly count: number;
  /** How many slots further up they come from: so many dead slots are among the `count + width` from `at`. */
  readonly width: number;
  /** CRC-32 of these records, what follows their strings zeroed. */
  readonly sum: number;
  /** The same of what stood in the `count + width` slots before. */
  readonly before: number;
  /** Whether copies of the records stand behind the note. */
  readonly copies: boolean;
  /** What is to be closed further up, ascending; those of the slots that are not in use. */
  readonly gaps: readonly Gap[];
}

/** Encodes a note into the first {@link NOTE_BYTES} bytes of a value field. @throws RangeError when it does not fit */
export function encodeNote(note: Note): Buffer {
  const words = [note.at, note.count, note.width, note.sum, note.before, note.copies ? 1 : 0];
  for (const { slot, count } of note.gaps) words.push(slot, count);
  const text = `${MAGIC} ${words.map((word) => word.toString(36)).join(" ")}`;
  const bytes = Buffer.alloc(NOTE_BYTES);
  const whole = `${text} ${crc32(text).toString(36)}`;
  if (whole.length > NOTE_BYTES - 2) throw new RangeError("the note does not fit");
  bytes.write(whole, 1, "latin1");
  return bytes;
}

/** Decodes the note in a record; undefined when there is none. Numbers are whole, but of any size. */
export function decodeNote(record: Uint8Array): Note | undefined {
  if (record[0] !== 0 || record[NOTE_AT] !== 0 || record[NOTE_AT + 1] !== MAGIC.charCodeAt(0))
    return undefined;
  const field = Buffer.from(record.buffer, record.byteOffset + NOTE_AT + 1, NOTE_BYTES - 1);
  const end = field.indexOf(0);
  const whole = field.toString("latin1", 0, end < 0 ? field.length : end);
  if (!whole.startsWith(`${MAGIC} `)) return undefined;
  const border = whole.lastIndexOf(" ");
  if (crc32(whole.slice(0, border)).toString(36) !== whole.slice(border + 1)) return undefined;
  const words = whole.slice(MAGIC.length + 1, border).split(" ");
  const numbers = words.map((word) => Number.parseInt(word, 36));
  if (numbers.length < 6 || numbers.length % 2 !== 0) return undefined;
  if (numbers.some((number) => !Number.isSafeInteger(number) || number < 0)) return undefined;
  const [at = 0, count = 0, width = 0, sum = 0, before = 0, copies = 0, ...rest] = numbers;
  const gaps: Gap[] = [];
  for (let i = 0; i < rest.length; i += 2) gaps.push({ slot: rest[i] ?? 0, count: rest[i + 1] ?? 0 });
  return { at, count, width, sum, before, copies: copies === 1, gaps };
}
