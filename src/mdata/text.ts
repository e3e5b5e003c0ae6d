import { isUtf8 } from "node:buffer";
import { decodeBase64, encodeBase64 } from "./base64.js";

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
export function payloadText(payload: string | undefined): string | undefined {
  return utf8(decodeBase64(payload ?? ""));
}
