/** Longest words of a peer that are kept, in bytes: what it refuses with, what it calls an error. */
export const MAX_WORDS_BYTES = 4096;

const NUL = 0;

/**
 * Returns what a peer said as text: as UTF-8, without the NULs at its end, and no more than its first
 * {@link MAX_WORDS_BYTES} bytes. A host's refusal is as long as the host likes; nobody reads, searches or logs all of it.
 */
export function peerWords(said: Uint8Array | string): string {
  const bytes =
    typeof said === "string"
      ? Buffer.from(said.slice(0, MAX_WORDS_BYTES))
      : Buffer.from(said.buffer, said.byteOffset, Math.min(said.length, MAX_WORDS_BYTES));
  return withoutEndingNuls(bytes.subarray(0, MAX_WORDS_BYTES)).toString("utf8");
}

/** Cuts the NULs at the end of a field. A pattern such as `\0+$` takes the square of their number. */
export function withoutEndingNuls(bytes: Buffer): Buffer {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === NUL) end--;
  return bytes.subarray(0, end);
}

/** Returns what stands in front of the first NUL. */
export function upToNul<T extends Uint8Array>(bytes: T): T {
  const end = bytes.indexOf(NUL);
  return end < 0 ? bytes : (bytes.subarray(0, end) as T);
}
