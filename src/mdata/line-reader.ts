/** One line without its end. */
export interface Line {
  /** Its bytes; of one that is too long only the beginning. A view that holds until the next call. */
  readonly bytes: Buffer;
  /** Its length on the wire. */
  readonly length: number;
}

const LF = 0x0a;
const FIRST_BYTES = 256;
/** Of a line that is too long so much is kept. */
const HEAD_BYTES = 256;
/** A buffer above that is given back after its line. */
const KEPT_BYTES = 16 * 1024;

/**
 * Cuts a stream into lines. However the peer cuts its bytes, no more than the limit (and what doubling adds) is held; a longer
 * line is counted to its end and given as its beginning.
 */
export class LineReader {
  readonly #maxBytes: number;
  /** Beginning of the line that is not complete. */
  #partial: Buffer = Buffer.alloc(0);
  #held = 0;
  #length = 0;
  #chunk: Buffer = Buffer.alloc(0);

  constructor(maxBytes: number) {
    this.#maxBytes = Math.max(maxBytes, HEAD_BYTES);
  }

  /** Takes bytes in; those before must have been read with {@link LineReader.next} to their end. */
  push(chunk: Buffer): void {
    this.#chunk = this.#chunk.length === 0 ? chunk : Buffer.concat([this.#chunk, chunk]);
  }

  /** Returns the next line; undefined when more bytes are needed. */
  next(): Line | undefined {
    const end = this.#chunk.indexOf(LF);
    if (end === -1) {
      this.#keep(this.#chunk);
      this.#chunk = Buffer.alloc(0);
      return undefined;
    }
    const part = this.#chunk.subarray(0, end);
    this.#chunk = this.#chunk.subarray(end + 1);
    if (this.#length === 0 && part.length <= this.#maxBytes) return { bytes: part, length: part.length };
    this.#keep(part);
    const line = { bytes: this.#partial.subarray(0, this.#held), length: this.#length };
    if (this.#partial.length > KEPT_BYTES) this.#partial = Buffer.alloc(0);
    this.#held = 0;
    this.#length = 0;
    return line;
  }

  /** Length so far of the line that is not complete. */
  get pending(): number {
    return this.#length;
  }

  /** Reports whether a line is longer than the limit. */
  isTooLong({ length }: Line): boolean {
    return length > this.#maxBytes;
  }

  #keep(part: Buffer): void {
    this.#length += part.length;
    if (this.#length > this.#maxBytes) {
      if (this.#held < HEAD_BYTES) this.#append(part.subarray(0, HEAD_BYTES - this.#held));
      else if (this.#partial.length > KEPT_BYTES)
        this.#partial = Buffer.from(this.#partial.subarray(0, HEAD_BYTES));
      this.#held = Math.min(this.#held, HEAD_BYTES);
    } else this.#append(part);
  }

  #append(part: Buffer): void {
    const needed = this.#held + part.length;
    if (needed > this.#partial.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, 2 * this.#partial.length, FIRST_BYTES));
      this.#partial.copy(grown, 0, 0, this.#held);
      this.#partial = grown;
    }
    part.copy(this.#partial, this.#held);
    this.#held = needed;
  }
}
