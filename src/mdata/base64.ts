import { finish, STEP_BYTES, type Steps } from "./steps.js";

const STEP_CHARS = (STEP_BYTES / 3) * 4;

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

/** Writes the bytes of padded base64 text to where there is room for them; gives their number, undefined when it is anything else. */
export function decodeBase64Into(text: string, room: Buffer): number | undefined {
  // Node's decoder also takes the alphabet of URLs.
  if (text.length % 4 !== 0 || text.includes("-") || text.includes("_")) return undefined;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const length = room.write(text, "base64");
  // It leaves out what is no base64 and stops at padding: fewer bytes come.
  return length === base64Bytes(text.length) - padding ? length : undefined;
}

function decodePortion(text: string): Buffer | undefined {
  const bytes = Buffer.allocUnsafe(base64Bytes(text.length));
  const length = decodeBase64Into(text, bytes);
  return length === undefined ? undefined : bytes.subarray(0, length);
}

/** Returns padded base64 text. */
export function encodeBase64(bytes: Uint8Array): string {
  const view = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.toString("base64");
}

/** Returns the length that padded base64 of so many bytes has. */
export function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

/** Returns how many bytes, at most, base64 of such a length stands for. */
export function base64Bytes(length: number): number {
  return Math.floor(length / 4) * 3;
}
