import { crc32 } from "node:zlib";

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

/** The part of a line in which a frame's fields are looked for; blanks may stand between them. */
const HEAD_BYTES = 128;
const HEAD = /^V2 +(\d{1,10}) +([0-9a-f]{8}) +/;
const BODY = /^([0-9a-fA-F]{8}) +([^ ]{1,32})(?: +|$)/;
/** Up to that length a checksum in JavaScript costs less than the way to zlib, which needs a view of the bytes besides. */
const SHORT_BYTES = 128;
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb88320;
  return crc;
});

/** Returns a frame's bytes, line end included. @param payload text that is base64 already */
export function encodeFrame({ id, word, payload }: Frame): Buffer {
  const body = payload === undefined ? `${id} ${word}` : `${id} ${word} ${payload}`;
  return Buffer.from(`${checkedHead(body.length, textChecksum(body))}${body}\n`, "latin1");
}

/** Returns what stands before the body of a frame. */
export function checkedHead(length: number, checksum: number): string {
  return `V2 ${length} ${hex(checksum)} `;
}

/** Reports whether a line is meant to be a frame. */
export function isFrame(line: Buffer): boolean {
  return line[0] === 0x56 && line[1] === 0x32 && (line.length === 2 || line[2] === 0x20);
}

/**
 * Reads a line without its end; undefined for a frame that is broken in whatever way.
 * @param length the line's, where more than the line is in `line`
 */
export function decodeFrame(line: Buffer, length = line.length): Frame | undefined {
  const end = trimmedLength(line, length);
  // One call for the whole line: of a short frame, the calls into Node cost more than all else.
  const text = latin1(line, 0, end);
  const head = HEAD.exec(text);
  if (head === null) return undefined;
  const [{ length: start }, declared, checksum] = head as unknown as [string, string, string];
  if (Number(declared) !== end - start || Number.parseInt(checksum, 16) !== bytesChecksum(line, start, end))
    return undefined;
  const body = BODY.exec(text.slice(start, start + HEAD_BYTES));
  if (body === null) return undefined;
  const [whole, id, word] = body as unknown as [string, string, string];
  const at = start + whole.length;
  return { id, word, payload: at < end ? text.slice(at) : undefined };
}

/**
 * Reads the beginning of a frame that is too long to be kept.
 * @param head its first bytes
 * @param bytes length of the whole line without its end
 * @returns undefined when the line is no frame of just that length
 */
export function decodeFrameHead(head: Buffer, bytes: number): Frame | undefined {
  const text = latin1(head, 0, HEAD_BYTES);
  const found = HEAD.exec(text);
  if (found === null || Number(found[1]) !== bytes - found[0].length) return undefined;
  const body = BODY.exec(text.slice(found[0].length));
  return body === null ? undefined : { id: body[1] as string, word: body[2] as string, payload: undefined };
}

/** Writers end their lines with CR LF or blanks at times. */
function trimmedLength(line: Buffer, length: number): number {
  let end = length;
  while (end > 0 && (line[end - 1] === 0x20 || line[end - 1] === 0x0d || line[end - 1] === 0x09)) end--;
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
  return checksum.toString(16).padStart(8, "0");
}

function latin1(bytes: Buffer, start: number, end: number): string {
  return bytes.toString("latin1", start, end);
}
