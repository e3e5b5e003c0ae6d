/*
 * The part of the FUSE protocol that a directory with a few device-like files needs (Linux include/uapi/linux/fuse.h,
 * protocol 7.31). Requests begin with a header of 40 bytes, replies with one of 16; all little-endian.
 */

/** Numbers of the operations. */
export const FuseOp = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  open: 14,
  read: 15,
  write: 16,
  release: 18,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  interrupt: 36,
  destroy: 38,
  poll: 40,
  batchForget: 42,
} as const;

/** One request of the kernel. */
export interface FuseRequest {
  readonly opcode: number;
  /** Number that the reply carries. */
  readonly unique: bigint;
  /** File or directory. */
  readonly node: number;
  /** Process that asks. */
  readonly pid: number;
  /** What follows the header. */
  readonly body: Buffer;
}

const IN_HEADER = 40;
const OUT_HEADER = 16;
const NOTIFY_POLL = 1;
/** FOPEN_DIRECT_IO, FOPEN_NONSEEKABLE, FOPEN_STREAM: without the last, a sleeping read holds up every write of the process. */
const DEVICE_LIKE = 1 | 4 | 16;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
/** Largest write that the server takes; messages are 7432 bytes. */
const MAX_WRITE = 64 * 1024;
/** Room that every request fits. */
export const REQUEST_BYTES = MAX_WRITE + 4096;

/** Decodes one request. @throws RangeError for less than a header, or than the header announces */
export function decodeFuseRequest(bytes: Buffer): FuseRequest {
  if (bytes.length < IN_HEADER) throw new RangeError(`${bytes.length} bytes are no request`);
  const length = bytes.readUInt32LE(0);
  if (length < IN_HEADER || length > bytes.length) throw new RangeError(`a request of ${length} bytes`);
  return {
    opcode: bytes.readUInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    node: Number(bytes.readBigUInt64LE(16)),
    pid: bytes.readUInt32LE(32),
    body: bytes.subarray(IN_HEADER, length),
  };
}

/** A reply with data, or an empty one. */
export function fuseReply(unique: bigint, body: Buffer = Buffer.alloc(0), error = 0): Buffer {
  const out = Buffer.alloc(OUT_HEADER + body.length);
  out.writeUInt32LE(out.length, 0);
  out.writeInt32LE(error, 4);
  out.writeBigUInt64LE(unique, 8);
  body.copy(out, OUT_HEADER);
  return out;
}

/** A reply with an errno. */
export function fuseError(unique: bigint, errno: number): Buffer {
  return fuseReply(unique, undefined, -errno);
}

/** The notification that a polled file has news. */
export function fusePollNotification(kernelHandle: bigint): Buffer {
  const body = Buffer.alloc(8);
  body.writeBigUInt64LE(kernelHandle, 0);
  return fuseReply(0n, body, NOTIFY_POLL);
}

/** Returns a body of 32-bit words, zeros but for some. @param words by their position */
function bodyOf(count: number, words: Readonly<Record<number, number>>): Buffer {
  const body = Buffer.alloc(4 * count);
  for (const [at, word] of Object.entries(words)) body.writeUInt32LE(word, 4 * Number(at));
  return body;
}

/** Answer to INIT: the version, limits of what is read ahead and asked at a time, the largest write, stamps of a nanosecond. */
export function initBody(): Buffer {
  return bodyOf(16, { 0: 7, 1: 31, 2: MAX_WRITE, 4: (12 << 16) | 16, 5: MAX_WRITE, 6: 1 });
}

/** A file or directory. */
export interface FuseNode {
  /** Its number. */
  readonly node: number;
  readonly directory: boolean;
}

/** Inode, mode, links, block size. */
function attributes({ node, directory }: FuseNode): Buffer {
  const mode = directory ? S_IFDIR | 0o755 : S_IFREG | 0o600;
  return bodyOf(22, { 0: node, 15: mode, 16: directory ? 2 : 1, 20: 4096 });
}

/** Answer to LOOKUP; never cached. */
export function entryBody(node: FuseNode): Buffer {
  return Buffer.concat([bodyOf(10, { 0: node.node }), attributes(node)]);
}

/** Answer to GETATTR and SETATTR. */
export function attrBody(node: FuseNode): Buffer {
  return Buffer.concat([bodyOf(4, {}), attributes(node)]);
}

/** Answer to OPEN: every read and write reaches the server whole. */
export function openBody(handle: number): Buffer {
  return bodyOf(4, { 0: handle, 2: DEVICE_LIKE });
}

/** Answer to WRITE with the count of bytes, to POLL with the events. */
export function countBody(count: number): Buffer {
  return bodyOf(2, { 0: count });
}

/** Fields of READ. */
export function decodeRead(body: Buffer): { handle: number; size: number } {
  return { handle: Number(body.readBigUInt64LE(0)), size: body.readUInt32LE(16) };
}

/** Fields of WRITE; the data is a view. */
export function decodeWrite(body: Buffer): { handle: number; data: Buffer } {
  const size = body.readUInt32LE(16);
  return { handle: Number(body.readBigUInt64LE(0)), data: body.subarray(40, 40 + size) };
}

/** Fields of POLL. */
export function decodePoll(body: Buffer): { handle: number; kernelHandle: bigint; notify: boolean } {
  return {
    handle: Number(body.readBigUInt64LE(0)),
    kernelHandle: body.readBigUInt64LE(8),
    notify: (body.readUInt32LE(16) & 1) !== 0,
  };
}
