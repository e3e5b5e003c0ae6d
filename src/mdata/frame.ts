import { isUtf8 } from "node:buffer";
import { crc32 } from "../base/crc32.js";
import { decodeBase64, decodeShortAscii, encodeBase64 } from "./base64.js";

/*
 * Version 2 of the SmartOS metadata protocol: `V2 <length> <crc32> <id> <word>[ <payload>]` and a line end. Length and CRC-32
 * (the one of zlib, eight lower-case hex digits) are those of the body, which goes from the id to the end.
 */

/** One frame. */
export interface Frame {
  /** Request id, eight hex digits. */
  readonly id: string;
  /** Command or answer. */
  readonly word: string;
  /** The payload as it stands on the wire; undefined where there is none. */
  readonly payload: string | undefined;
}

/** No command and no answer is longer. */
const MAX_WORD_BYTES = 32;
const ID_BYTES = 8;
/** A checksum of so few bytes costs less here than the way to zlib does. */
const SHORT_BYTES = 64;
const BLANK = 0x20;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb88320;
  return crc;
});
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/*
 * A host serves tens of thousands of short frames a second, and a call into Node (a regular expression, a view, a conversion of a
 * number) costs as much as a loop over all of such a frame. So they are read and written character by character.
 */

/** Returns a frame's text, line end included; it is ASCII. @param payload text that is base64 already */
export function frameText({ id, word, payload }: Frame): string {
  const body = payload === undefined ? `${id} ${word}` : `${id} ${word} ${payload}`;
  return `${checkedHead(body.length, textChecksum(body))}${body}\n`;
}

/** Returns a frame's bytes, line end included. @param payload text that is base64 already */
export function encodeFrame(frame: Frame): Buffer {
  return Buffer.from(frameText(frame), "latin1");
}

/** Returns what stands before the body of a frame. */
export function checkedHead(length: number, checksum: number): string {
  return `V2 ${length} ${hex(checksum)} `;
}

/** Reports whether a line is meant to be a frame. */
export function isFrame(line: Buffer): boolean {
  return line[0] === 0x56 && line[1] === 0x32 && (line.length === 2 || line[2] === BLANK);
}

/**
 * Reads a line without its end; undefined for a frame that is broken in whatever way.
 * @param length the line's, where more than the line is in `line`
 */
export function decodeFrame(line: Buffer, length = line.length): Frame | undefined {
  const end = trimmedLength(line, length);
  const head = decodeHead(line, end);
  if (head === undefined || head.declared !== end - head.start) return undefined;
  return head.checksum === bytesChecksum(line, head.start, end)
    ? decodeBody(line, head.start, end)
    : undefined;
}

/**
 * Reads the beginning of a frame that is too long to be kept.
 * @param beginning its first bytes
 * @param bytes length of the whole line without its end
 * @returns undefined when the line is no frame of just that length
 */
export function decodeFrameHead(beginning: Buffer, bytes: number): Frame | undefined {
  const head = decodeHead(beginning, beginning.length);
  if (head === undefined || head.declared !== bytes - head.start) return undefined;
  const frame = decodeBody(beginning, head.start, beginning.length);
  return frame && { ...frame, payload: undefined };
}

/** Reads `V2 <length> <crc32> `; blanks may stand between. */
function decodeHead(
  line: Buffer,
  end: number,
): { readonly declared: number; readonly checksum: number; readonly start: number } | undefined {
  if (end < 3 || !isFrame(line)) return undefined;
  let at = afterBlanks(line, 2, end);
  const digits = at;
  let declared = 0;
  for (; at < end; at++) {
    const digit = (line[at] as number) - 0x30;
    if (digit < 0 || digit > 9) break;
    declared = declared * 10 + digit;
  }
  if (at === digits || at - digits > 10 || line[at] !== BLANK) return undefined;
  at = afterBlanks(line, at, end);
  let checksum = 0;
  for (const last = at + 8; at < last; at++) {
    const digit = hexDigit(line[at]);
    if (digit < 0) return undefined;
    checksum = (checksum << 4) | digit;
  }
  if (line[at] !== BLANK) return undefined;
  return { declared, checksum: checksum >>> 0, start: afterBlanks(line, at, end) };
}

/** Reads `<id> <word>[ <payload>]`. */
function decodeBody(line: Buffer, start: number, end: number): Frame | undefined {
  let at = start;
  for (; at < start + ID_BYTES; at++) {
    const byte = line[at] ?? 0;
    // Ids may be written in upper case.
    if (hexDigit(byte) < 0 && hexDigit(byte | 0x20) < 10) return undefined;
  }
  if (line[at] !== BLANK) return undefined;
  const word = afterBlanks(line, at, end);
  at = word;
  while (at < end && line[at] !== BLANK) at++;
  if (at === word || at - word > MAX_WORD_BYTES) return undefined;
  const payload = afterBlanks(line, at, end);
  const text = line.toString("latin1", start, end);
  return {
    id: text.slice(0, ID_BYTES),
    word: text.slice(word - start, at - start),
    payload: payload < end ? text.slice(payload - start) : undefined,
  };
}

function afterBlanks(line: Buffer, from: number, end: number): number {
  let at = from;
  while (at < end && line[at] === BLANK) at++;
  return at;
}

/** Returns the value of a lower-case hex digit; negative for anything else. */
function hexDigit(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  return byte >= 0x61 && byte <= 0x66 ? byte - 0x57 : -1;
}

/** Writers end their lines with CR LF or blanks at times. */
function trimmedLength(line: Buffer, length: number): number {
  let end = length;
  while (end > 0 && (line[end - 1] === BLANK || line[end - 1] === 0x0d || line[end - 1] === 0x09)) end--;
  return end;
}

function bytesChecksum(bytes: Buffer, start: number, end: number): number {
  if (end - start > SHORT_BYTES) return crc32(bytes.subarray(start, end));
  let crc = -1;
  for (let at = start; at < end; at++)
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ (bytes[at] as number)) & 0xff] as number);
  return ~crc >>> 0;
}

/** The same for text of one byte each; what is no such text, and is refused by nobody, goes to zlib as UTF-8. */
function textChecksum(text: string): number {
  if (text.length > SHORT_BYTES) return crc32(text);
  let crc = -1;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code > 0x7f) return crc32(text);
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ code) & 0xff] as number);
  }
  return ~crc >>> 0;
}

function hex(checksum: number): string {
  const byte = (shift: number): string => HEX[(checksum >>> shift) & 0xff] as string;
  return byte(24) + byte(16) + byte(8) + byte(0);
}

/** Returns bytes as text; undefined when they are no UTF-8. */
export function utf8(bytes: Buffer | undefined): string | undefined {
  return bytes !== undefined && isUtf8(bytes) ? bytes.toString("utf8") : undefined;
}

/** Returns text as the base64 of a payload; undefined for none, as the protocol leaves an empty one out. */
export function textPayload(text: string): string | undefined {
  return bytesPayload(Buffer.from(text));
}

/** The same for bytes. */
export function bytesPayload(bytes: Uint8Array): string | undefined {
  return bytes.length === 0 ? undefined : encodeBase64(bytes);
}

/** Returns the text of a payload, which is empty where there is none; undefined when it is no base64 of UTF-8. */
export function payloadText(payload = ""): string | undefined {
  return decodeShortAscii(payload) ?? utf8(decodeBase64(payload));
}
