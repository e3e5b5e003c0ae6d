import { HEADER_BYTES } from "./wire.js";

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

  /**
   * @param maxPayload largest payload that is taken, in bytes
   * @param sink must not push
   */
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

  /** Adds to the unfinished message and delivers it when it is whole; gives how many bytes it took. */
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
