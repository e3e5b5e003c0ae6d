import { pvbusError } from "../../base/errors.js";

// The layout of docs/portable-keys.md as pure functions. Change it only together with that page.

/** What every head record begins with; a value that begins so is stored as a set, never as it is. */
const MARK = "pvbus-set-";
const HEAD = /^pvbus-set-1 ([ab]) (0|[1-9]\d{0,3}) (0|[1-9]\d{0,6}) ([0-9a-f]{32})$/;
/** Longer than any head record of version 1. */
const MAX_HEAD_BYTES = 60;
const ALPHABET = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;

/** Longest value in UTF-8 bytes. */
export const MAX_PORTABLE_BYTES = 1024 * 1024;
/** Most chunks of one set. */
const MAX_CHUNKS = 9999;
/** What is hashed without a pause. */
const HASHED_BYTES = 128 * 1024;
/** A native key must take a head record. */
export const MIN_CHUNK_BYTES = 64;

/** Where the chunks of a set are; the other slot is free for the next set. */
export type Slot = "a" | "b";

/** A head record: what the chunks must come to. */
export interface SetHead {
  /** Slot of the chunks. */
  readonly slot: Slot;
  /** Number of chunks. */
  readonly count: number;
  /** Length of the whole value in bytes. */
  readonly bytes: number;
  /** First 32 hexadecimal digits of the whole value's SHA-256. */
  readonly sum: string;
}

/** @throws PvbusError `ERR_KEY_INVALID` */
export function checkNamespace(namespace: string): void {
  if (typeof namespace !== "string") throw new TypeError("a namespace must be a string");
  if (!ALPHABET.test(namespace)) throw badText("namespace", namespace);
}

/** @throws PvbusError `ERR_KEY_INVALID` */
export function checkName(name: string): void {
  if (typeof name !== "string") throw new TypeError("a name must be a string");
  if (!isPortableName(name)) throw badText("name", name);
}

/** Reports whether a text is a portable name; the name of a chunk is none. */
export function isPortableName(text: string): boolean {
  return ALPHABET.test(text) && !text.includes("__");
}

function badText(what: string, text: string): Error {
  const shown = JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
  const rule = "1 to 100 letters, digits, dots, dashes and underscores, the first a letter or digit";
  const reserved = what === "name" ? ', and "__" is reserved' : "";
  return pvbusError("ERR_KEY_INVALID", `${shown} is no portable ${what}: use ${rule}${reserved}`);
}

/** Returns the name under which chunk number `index`, from 1, is stored. Its `__` keeps it apart from all other names. */
export function chunkName(name: string, slot: Slot, index: number): string {
  return `${name}__${slot}_${index}`;
}

/** Reports whether stored bytes begin as a head record does. */
export function isMarked(bytes: Uint8Array): boolean {
  return (
    Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1", 0, MARK.length) === MARK
  );
}

/** Returns the head record as it is stored. */
export function encodeHead({ slot, count, bytes, sum }: SetHead): string {
  return `${MARK}1 ${slot} ${count} ${bytes} ${sum}`;
}

/** Reads a head record; undefined when the bytes are no record of version 1, or tell what cannot be. */
export function decodeHead(stored: Uint8Array): SetHead | undefined {
  if (stored.length > MAX_HEAD_BYTES) return undefined;
  const [, slot, count, bytes, sum] = HEAD.exec(Buffer.from(stored).toString("latin1")) ?? [];
  if (slot === undefined || sum === undefined) return undefined;
  const head: SetHead = { slot: slot as Slot, count: Number(count), bytes: Number(bytes), sum };
  const possible =
    head.bytes <= MAX_PORTABLE_BYTES && head.count <= head.bytes && (head.bytes === 0 || head.count > 0);
  return possible ? head : undefined;
}

/**
 * Splits UTF-8 text into chunks of at most `chunkBytes`, never inside a character: each chunk is text.
 * @throws PvbusError `ERR_VALUE_TOO_LONG` when there would be too many
 */
export function splitText(bytes: Uint8Array, chunkBytes: number): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; ) {
    let end = Math.min(start + chunkBytes, bytes.length);
    while (end < bytes.length && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
    chunks.push(bytes.subarray(start, end));
    start = end;
  }
  if (chunks.length > MAX_CHUNKS) {
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the value needs ${chunks.length} keys of ${chunkBytes} bytes, a set has ${MAX_CHUNKS} at most; shorten it`,
    );
  }
  return chunks;
}

/**
 * Reads and joins the chunks that a head record names, never more bytes than it tells.
 * @returns undefined when they do not fit it
 */
export async function joinSet(
  head: SetHead,
  read: (index: number) => Promise<Uint8Array | undefined>,
  sumOf: (whole: Uint8Array) => Promise<string>,
): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (let index = 1; index <= head.count; index++) {
    const chunk = await read(index);
    length += chunk?.length ?? 0;
    if (chunk === undefined || length > head.bytes) return undefined;
    chunks.push(chunk);
  }
  const whole = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return length === head.bytes && (await sumOf(whole)) === head.sum ? whole : undefined;
}

/**
 * Returns the checksum of a whole value. node:crypto loads on first use: most programs split nothing.
 * @param turn asked before each piece; a slow machine needs milliseconds for one
 */
export async function checksum(bytes: Uint8Array, turn: () => Promise<void> | undefined): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  for (let at = 0; at < bytes.length; at += HASHED_BYTES) {
    await turn();
    hash.update(bytes.subarray(at, at + HASHED_BYTES));
  }
  return hash.digest("hex").slice(0, 32);
}
