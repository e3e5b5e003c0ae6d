import { isUtf8 } from "node:buffer";
import { base64Bytes, decodeBase64, decodeBase64Into, encodeBase64 } from "./base64.js";

/** Room for the text of a short payload: a buffer of its own would cost more than the decoding. It holds nothing between calls. */
const room = Buffer.allocUnsafeSlow(384);

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
  if (base64Bytes(payload.length) > room.length) return utf8(decodeBase64(payload));
  const length = decodeBase64Into(payload, room);
  if (length === undefined) return undefined;
  for (let at = 0; at < length; at++)
    // What is not ASCII may be no UTF-8 at all.
    if ((room[at] as number) > 0x7f) return utf8(room.subarray(0, length));
  return room.toString("latin1", 0, length);
}
