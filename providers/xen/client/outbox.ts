import { HEADER_BYTES } from "../protocol/wire.js";
import type { TransportStream } from "../transport/transport.js";
import type { PendingRequest } from "./pending.js";

/** Collects the messages of one turn of the event loop and sends them in one write. */
export class Outbox {
  readonly #room: number;
  readonly #stream: () => TransportStream | undefined;
  readonly #refused: (error: unknown) => void;
  #bytes: Buffer | undefined;
  /** A buffer that the stream gave back. */
  #spare: Buffer | undefined;
  #used = 0;
  #flushing = false;
  readonly #flush = (): void => this.#send();

  /**
   * @param room bytes of one write at most, one message at least
   * @param stream returns the stream; undefined while there is none to write to
   * @param refused hears of a write that fails
   */
  constructor(room: number, stream: () => TransportStream | undefined, refused: (error: unknown) => void) {
    this.#room = room;
    this.#stream = stream;
    this.#refused = refused;
  }

  /** Adds a request's message, which is sent behind the present turn. */
  add(request: PendingRequest): void {
    const { operation, id, transactionId, text, value, size: length } = request;
    if (this.#used + HEADER_BYTES + length > this.#room) this.#send();
    if (this.#bytes === undefined) {
      this.#bytes = this.#spare ?? Buffer.allocUnsafeSlow(this.#room);
      this.#spare = undefined;
    }
    const target = this.#bytes;
    let at = this.#used;
    // Not writeHeader(): an object for each request would cost a tenth of the rate.
    target.writeUInt32LE(operation.type, at);
    target.writeUInt32LE(id, at + 4);
    target.writeUInt32LE(transactionId, at + 8);
    target.writeUInt32LE(length, at + 12);
    at += HEADER_BYTES;
    at += target.write(text, at, "latin1");
    if (operation.bare !== true) target[at++] = 0;
    if (value.length > 0) target.set(value, at);
    this.#used = at + value.length;
    if (this.#flushing) return;
    this.#flushing = true;
    process.nextTick(this.#flush);
  }

  #send(): void {
    this.#flushing = false;
    const bytes = this.#bytes;
    const used = this.#used;
    const stream = this.#stream();
    if (bytes === undefined || used === 0 || stream === undefined) return;
    this.#used = 0;
    const writing = stream.write(bytes.subarray(0, used));
    if (writing === undefined) return;
    this.#bytes = undefined;
    writing.then(() => {
      this.#spare = bytes;
    }, this.#refused);
  }
}
