import { pvbusError } from "../../../src/base/errors.js";

/*
 * Frames of VMware's guest RPC over vsock ("DataMap", open-vm-tools lib/dataMap). All 32-bit integers big endian:
 *
 *   0  u32 length of what follows
 *   4  entries until the length is used up: u32 type, u32 field, value
 *
 * int64: low u32, then high u32. string: u32 length, bytes. Lists: u32 count, then as many of these.
 */

/** Longest frame that is taken, without its length word. */
export const MAX_FRAME_BYTES = 8 * 1024 * 1024 + 64;

const NOTHING = Buffer.alloc(0);
const WORD = 4;
const ENTRY_HEADER = 2 * WORD;

const TYPE_INT64 = 1;
const TYPE_STRING = 2;
const TYPE_INT64_LIST = 3;
const TYPE_STRING_LIST = 4;

/** Fields of a guest RPC. */
const FIELD_TYPE = 1;
const FIELD_PAYLOAD = 2;
const FIELD_FAST_CLOSE = 3;

const DATA = 1n;

/**
 * Encodes a command as one frame.
 * @param fastClose asks the host to close the connection behind its reply
 * @throws RangeError for an empty payload, which no frame can hold
 */
export function encodeFrame(payload: Uint8Array, fastClose = false): Buffer {
  if (payload.length === 0) throw new RangeError("a frame cannot hold an empty payload");
  const int64 = ENTRY_HEADER + 8;
  const length = int64 + ENTRY_HEADER + WORD + payload.length + (fastClose ? int64 : 0);
  const head = [length, TYPE_INT64, FIELD_TYPE, 1, 0, TYPE_STRING, FIELD_PAYLOAD, payload.length];
  const tail = fastClose ? [TYPE_INT64, FIELD_FAST_CLOSE, 1, 0] : [];
  return Buffer.concat([wordsToBytes(head), payload, wordsToBytes(tail)]);
}

/**
 * Decodes the entries of a frame and returns its payload.
 * @param body the frame without its length word
 * @throws PvbusError `ERR_PROTOCOL` for entries that are none, a field that comes twice, a frame without payload or one
 *   that is no data
 */
export function decodeFrame(body: Uint8Array): Buffer {
  const entries = new Entries(body);
  let type: bigint | undefined;
  let payload: Buffer | undefined;
  const seen = new Set<number>();
  while (!entries.atEnd) {
    const kind = entries.word("the type of a field");
    const field = entries.word("the number of a field");
    if (seen.has(field)) throw malformed(`field ${field} comes twice`);
    seen.add(field);
    const value = entries.value(kind);
    if (field === FIELD_TYPE) type = typeof value === "bigint" ? value : wrongKind(field);
    if (field === FIELD_PAYLOAD) payload = Buffer.isBuffer(value) ? value : wrongKind(field);
  }
  if (type !== DATA) throw malformed(type === undefined ? "it has no type" : `its type is ${type}`);
  if (payload === undefined) throw malformed("it has no payload");
  return payload;
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  #length: number | undefined;
  /** The unfinished frame; it doubles as bytes come, so that a length that was only announced costs nothing. */
  #bytes: Buffer = NOTHING;
  #size = 0;

  /** Bytes that wait for the rest of their frame. */
  get pending(): number {
    return this.#size;
  }

  /**
   * Takes bytes as they came, in pieces of any size.
   * @returns the body of the frame that is whole now; undefined while there is none
   * @throws PvbusError `ERR_PROTOCOL` for a frame that is too long, and for bytes behind a whole one
   */
  push(chunk: Uint8Array): Buffer | undefined {
    this.#append(chunk);
    if (this.#length === undefined) {
      if (this.#size < WORD) return undefined;
      const length = this.#bytes.readUInt32BE();
      if (length > MAX_FRAME_BYTES)
        throw malformed(`it announces ${length} bytes, ${MAX_FRAME_BYTES} are taken at most`);
      this.#length = length;
    }
    if (this.#size < WORD + this.#length) return undefined;
    if (this.#size > WORD + this.#length) throw malformed("more bytes follow than it announces");
    const body = this.#bytes.subarray(WORD, this.#size);
    this.#length = undefined;
    this.#bytes = NOTHING;
    this.#size = 0;
    return body;
  }

  /** Copies: a socket's chunk of one byte would hold all of the memory that it was read into. */
  #append(chunk: Uint8Array): void {
    const needed = this.#size + chunk.length;
    if (needed > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.max(needed, Math.min(2 * this.#size, WORD + MAX_FRAME_BYTES)),
      );
      this.#bytes.copy(grown, 0, 0, this.#size);
      this.#bytes = grown;
    }
    this.#bytes.set(chunk, this.#size);
    this.#size = needed;
  }
}

/** Reads entries, each step checked against what is left. */
class Entries {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(body: Uint8Array) {
    this.#bytes = Buffer.from(body.buffer, body.byteOffset, body.length);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  word(what: string): number {
    return this.#take(WORD, what).readUInt32BE();
  }

  value(kind: number): bigint | Buffer | undefined {
    switch (kind) {
      case TYPE_INT64:
        return this.#int64();
      case TYPE_STRING:
        return this.#string();
      case TYPE_INT64_LIST:
        return this.#list(() => this.#int64());
      case TYPE_STRING_LIST:
        return this.#list(() => this.#string());
      default:
        throw malformed(`a field has the unknown type ${kind}`);
    }
  }

  #int64(): bigint {
    const low = this.word("an integer");
    return BigInt.asIntN(64, (BigInt(this.word("an integer")) << 32n) | BigInt(low));
  }

  #string(): Buffer {
    const length = this.word("the length of a text");
    if (length === 0) throw malformed("a text has no bytes");
    return this.#take(length, "a text");
  }

  /** Each item takes bytes, so that a count that is too large ends at the end of the frame. */
  #list(item: () => unknown): undefined {
    for (let count = this.word("the length of a list"); count > 0; count--) item();
  }

  #take(length: number, what: string): Buffer {
    if (this.#bytes.length - this.#at < length) throw malformed(`it ends inside ${what}`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}

function wordsToBytes(words: readonly number[]): Buffer {
  const bytes = Buffer.alloc(words.length * WORD);
  for (const [at, word] of words.entries()) bytes.writeUInt32BE(word, at * WORD);
  return bytes;
}

function malformed(why: string): Error {
  return pvbusError("ERR_PROTOCOL", `the host's frame is malformed: ${why}; the connection is closed`);
}

function wrongKind(field: number): never {
  throw malformed(`field ${field} is of the wrong kind`);
}
