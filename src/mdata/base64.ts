import { finish, STEP_BYTES, type Steps } from "./steps.js";

const STEP_CHARS = (STEP_BYTES / 3) * 4;
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const CODES = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));
/** What each character of base64 stands for; negative for what is none. */
const VALUES = new Int32Array(128).fill(-1);
for (let value = 0; value < 64; value++) VALUES[CODES[value] as number] = value;
const PADDING = 0x3d;
/** Of texts and bytes up to that length, the calls into Node's decoder and encoder cost more than all of the work. */
const SHORT_CHARS = 64;
const SHORT_BYTES = 48;

/** Returns the bytes of padded base64 text; undefined when the text is anything else, so that nothing is damaged in silence. */
export function decodeBase64(text: string): Buffer | undefined {
  return text.length <= STEP_CHARS ? decodePortion(text) : finish(decodeBase64InSteps(text));
}

/** The same in steps. */
export function* decodeBase64InSteps(text: string): Steps<Buffer | undefined> {
  if (text.length <= STEP_CHARS) return decodePortion(text);
  if (text.length % 4 !== 0) return undefined;
  const bytes = Buffer.allocUnsafe(base64Bytes(text.length));
  let length = 0;
  for (let at = 0; at < text.length; at += STEP_CHARS) {
    const portion = decodePortion(text.slice(at, at + STEP_CHARS));
    // Padding stands at the very end alone.
    if (portion === undefined || (portion.length < STEP_BYTES && at + STEP_CHARS < text.length))
      return undefined;
    portion.copy(bytes, length);
    length += portion.length;
    yield undefined;
  }
  return bytes.subarray(0, length);
}

function decodePortion(text: string): Buffer | undefined {
  // Node's decoder also takes the alphabet of URLs.
  if (text.length % 4 !== 0 || text.includes("-") || text.includes("_")) return undefined;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const bytes = Buffer.from(text, "base64");
  // It leaves out what is no base64 and stops at padding: fewer bytes come.
  return bytes.length === base64Bytes(text.length) - padding ? bytes : undefined;
}

/** Returns the text that short base64 stands for; undefined when it is long, or no ASCII, or no padded base64. */
export function decodeShortAscii(text: string): string | undefined {
  const { length } = text;
  if (length > SHORT_CHARS || length % 4 !== 0) return undefined;
  let ascii = "";
  for (let at = 0; at < length; at += 4) {
    const third = at + 4 === length && text.charCodeAt(at + 3) === PADDING ? text.charCodeAt(at + 2) : 0;
    const characters = third === 0 ? 3 : third === PADDING ? 1 : 2;
    const group =
      (sextet(text, at) << 18) |
      (sextet(text, at + 1) << 12) |
      (characters > 1 ? sextet(text, at + 2) << 6 : 0) |
      (characters > 2 ? sextet(text, at + 3) : 0);
    // What is no base64 is negative, and beyond ASCII is the highest bit of a byte.
    if (group < 0 || (group & 0x80_80_80) !== 0) return undefined;
    if (characters === 3) ascii += String.fromCharCode(group >> 16, (group >> 8) & 0xff, group & 0xff);
    else if (characters === 2) ascii += String.fromCharCode(group >> 16, (group >> 8) & 0xff);
    else ascii += String.fromCharCode(group >> 16);
  }
  return ascii;
}

function sextet(text: string, at: number): number {
  return VALUES[text.charCodeAt(at)] ?? -1;
}

/** Returns padded base64 text. */
export function encodeBase64(bytes: Uint8Array): string {
  if (bytes.length <= SHORT_BYTES) return encodeShort(bytes);
  const view = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.toString("base64");
}

function encodeShort(bytes: Uint8Array): string {
  const { length } = bytes;
  let text = "";
  for (let at = 0; at < length; at += 3) {
    const second = bytes[at + 1];
    const third = bytes[at + 2];
    const group = ((bytes[at] as number) << 16) | ((second ?? 0) << 8) | (third ?? 0);
    text += String.fromCharCode(
      CODES[group >> 18] as number,
      CODES[(group >> 12) & 63] as number,
      second === undefined ? PADDING : (CODES[(group >> 6) & 63] as number),
      third === undefined ? PADDING : (CODES[group & 63] as number),
    );
  }
  return text;
}

/** Returns the length that padded base64 of so many bytes has. */
export function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

/** Returns how many bytes, at most, base64 of such a length stands for. */
export function base64Bytes(length: number): number {
  return Math.floor(length / 4) * 3;
}
