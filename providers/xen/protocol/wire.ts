/*
 * XenStore's messages (Xen xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt): a header of four 32-bit words in
 * the machine's byte order, which is little-endian wherever Node runs under Xen, then the payload.
 *
 *   0 type | 4 request id, echoed | 8 transaction id, 0 for none | 12 bytes of payload
 */

/** Bytes of the header. */
export const HEADER_BYTES = 16;
/** Largest payload of a request, and of a reply through a ring (`XENSTORE_PAYLOAD_MAX`). */
export const XENSTORE_PAYLOAD_MAX = 4096;
/** Longest absolute path (`XENSTORE_ABS_PATH_MAX`). */
export const XENSTORE_ABS_PATH_MAX = 3072;
/** Longest relative path, and the rest of an absolute one behind the domain's directory (`XENSTORE_REL_PATH_MAX`). */
export const XENSTORE_REL_PATH_MAX = 2048;

/** Message types (`enum xsd_sockmsg_type`). */
export const XS = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  GET_PERMS: 3,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  INTRODUCE: 8,
  RELEASE: 9,
  GET_DOMAIN_PATH: 10,
  WRITE: 11,
  MKDIR: 12,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
  IS_DOMAIN_INTRODUCED: 17,
  RESUME: 18,
  SET_TARGET: 19,
  RESET_WATCHES: 21,
  DIRECTORY_PART: 22,
  GET_FEATURE: 23,
  SET_FEATURE: 24,
  GET_QUOTA: 25,
  SET_QUOTA: 26,
} as const;

/** Number of a message type. */
export type XsType = (typeof XS)[keyof typeof XS];

const NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(XS).map(([name, number]) => [number, name]),
);

/** Returns the name of a type, its number for an unknown one. */
export function typeName(type: number): string {
  return NAMES[type] ?? `type ${type}`;
}

/** One whole message. */
export interface XsMessage {
  /** What it is, by the number of `enum xsd_sockmsg_type`. */
  readonly type: number;
  /** Id of the request; chosen by the client, without a meaning in an event. */
  readonly requestId: number;
  /** Id of the transaction; 0 for none. */
  readonly transactionId: number;
  /** Payload. */
  readonly payload: Uint8Array;
}

/** Writes a header; `length` is the payload's. */
export function writeHeader(
  target: Buffer,
  at: number,
  { type, requestId, transactionId }: Omit<XsMessage, "payload">,
  length: number,
): void {
  target.writeUInt32LE(type, at);
  target.writeUInt32LE(requestId, at + 4);
  target.writeUInt32LE(transactionId, at + 8);
  target.writeUInt32LE(length, at + 12);
}

/** Returns a whole message as it is sent. */
export function encodeMessage(message: XsMessage): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + message.payload.length);
  writeHeader(bytes, 0, message, message.payload.length);
  bytes.set(message.payload, HEADER_BYTES);
  return bytes;
}

/** Returns strings as a payload has them: each ended by a NUL. */
export function encodeStrings(...strings: readonly string[]): Buffer {
  return Buffer.from(strings.map((each) => `${each}\0`).join(""));
}

/**
 * Returns the strings of a payload. The last one's NUL may be missing; an empty payload has none.
 * @param most stop after so many, the last one being all the rest
 */
export function decodeStrings(payload: Uint8Array, most = Number.POSITIVE_INFINITY): string[] {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const last = bytes.at(-1) === 0 ? bytes.length - 1 : bytes.length;
  const strings: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const nul = strings.length + 1 < most ? bytes.indexOf(0, at) : last;
    const end = nul < at ? bytes.length : nul;
    strings.push(bytes.toString("utf8", at, end));
    at = end + 1;
  }
  return strings;
}

/** One part of a long listing, as DIRECTORY_PART answers it. */
export interface DirectoryPart {
  /** Changes whenever the directory does; a decimal number of 64 bits. */
  readonly generation: string;
  /** Names of this part. */
  readonly names: readonly string[];
  /** Offset of the next part; undefined after the last. */
  readonly next: number | undefined;
}

/**
 * Takes a reply to DIRECTORY_PART apart: the generation and a NUL, then whole names each with its NUL, after the last
 * part's last name one NUL more.
 * @param offset as asked
 * @returns undefined when it is none
 */
export function decodeDirectoryPart(payload: Uint8Array, offset: number): DirectoryPart | undefined {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const nul = bytes.indexOf(0);
  const generation = bytes.toString("latin1", 0, Math.max(nul, 0));
  const list = bytes.subarray(nul + 1);
  if (!/^\d{1,20}$/.test(generation) || list.at(-1) !== 0) return undefined;
  const last = list.length === 1 || list.at(-2) === 0;
  const names = decodeStrings(last ? list.subarray(0, -1) : list);
  if (names.includes("")) return undefined;
  return { generation, names, next: last ? undefined : offset + list.length };
}

/** Receives whole messages; the payload is `bytes` from `start` to `end`, valid during the call only. */
export type MessageSink = (
  type: number,
  requestId: number,
  transactionId: number,
  bytes: Buffer,
  start: number,
  end: number,
) => void;

/** A message whose header announces more than the reader takes. */
export class OversizedMessage extends Error {
  /** @param announced bytes of payload in the header */
  constructor(announced: number, most: number) {
    super(`a message announces ${announced} bytes of payload, ${most} are the most`);
    this.name = "OversizedMessage";
  }
}

/**
 * Cuts a byte stream into messages, however it arrives. What lies whole in a chunk is handed over in place; only a
 * message across chunks is collected.
 */
export class MessageDecoder {
  readonly #maxPayload: number;
  readonly #sink: MessageSink;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  /** The unfinished message: its header's buffer, once that is whole one for all of it. */
  #partial: Buffer = this.#header;
  #have = 0;

  /** @param maxPayload largest payload that is taken, in bytes @param sink must not push */
  constructor(maxPayload: number, sink: MessageSink) {
    this.#maxPayload = maxPayload;
    this.#sink = sink;
  }

  /** Bytes of the unfinished message that have arrived. */
  get pending(): number {
    return this.#have;
  }

  /**
   * Takes the next bytes, which it does not keep.
   * @throws OversizedMessage for a header that announces too much; then nothing more can be pushed
   */
  push(chunk: Buffer): void {
    let at = this.#have === 0 ? 0 : this.#complete(chunk);
    if (this.#have > 0) return;
    const { length } = chunk;
    while (length - at >= HEADER_BYTES) {
      const start = at + HEADER_BYTES;
      const end = start + this.#length(chunk, at);
      if (end > length) break;
      this.#deliver(chunk, at, start, end);
      at = end;
    }
    if (at < length) this.#complete(at === 0 ? chunk : chunk.subarray(at));
  }

  /** Adds to the unfinished message and delivers it when it is whole; returns how many bytes it took. */
  #complete(chunk: Buffer): number {
    let taken = this.#take(chunk, 0);
    if (this.#have < HEADER_BYTES) return taken;
    if (this.#partial === this.#header) {
      const length = this.#length(this.#header, 0);
      if (length > 0) {
        this.#partial = Buffer.allocUnsafe(HEADER_BYTES + length);
        this.#header.copy(this.#partial);
        taken += this.#take(chunk, taken);
      }
    }
    const message = this.#partial;
    if (this.#have < message.length) return taken;
    this.#partial = this.#header;
    this.#have = 0;
    this.#deliver(message, 0, HEADER_BYTES, message.length);
    return taken;
  }

  #take(chunk: Buffer, from: number): number {
    const taken = chunk.copy(this.#partial, this.#have, from);
    this.#have += taken;
    return taken;
  }

  #length(bytes: Buffer, at: number): number {
    const length = bytes.readUInt32LE(at + 12);
    if (length > this.#maxPayload) throw new OversizedMessage(length, this.#maxPayload);
    return length;
  }

  #deliver(bytes: Buffer, at: number, start: number, end: number): void {
    this.#sink(
      bytes.readUInt32LE(at),
      bytes.readUInt32LE(at + 4),
      bytes.readUInt32LE(at + 8),
      bytes,
      start,
      end,
    );
  }
}
