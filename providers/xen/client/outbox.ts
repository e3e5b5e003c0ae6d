import { HEADER_BYTES } from "../protocol/wire.js";
import type { TransportStream } from "../transport/transport.js";
import type { PendingRequest } from "./pending.js";

/** Where an outbox sends to, and who hears of a write that fails. */
export interface OutboxOwner {
  /** Returns the stream; undefined while there is none to write to. */
  readonly stream: () => TransportStream | undefined;
  /** A write was refused. */
  readonly onRefused: (error: unknown) => void;
}

/** Collects the messages of one turn of the event loop and sends them in one write. */
export class Outbox {
  readonly #owner: OutboxOwner;
  readonly #room: number;
  #bytes: Buffer | undefined;
  /** A buffer that the stream gave back. */
  #spare: Buffer | undefined;
  #used = 0;
  #flushing = false;
  readonly #flush = (): void => this.#send();

  /** @param room bytes of one write at most, one message at least */
  constructor(room: number, owner: OutboxOwner) {
    this.#room = room;
    this.#owner = owner;
  }

  /** Adds a request's message, which is sent behind the present turn. */
  add(request: PendingRequest): void {
    const { operation, id, transactionId, text, value, size: length } = request;
    if (this.#used + HEADER_BYTES + length > this.#room) this.#send();
    this.#bytes ??= this.#takeSpare() ?? Buffer.allocUnsafeSlow(this.#room);
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

  #takeSpare(): Buffer | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare;
  }

  #send(): void {
    this.#flushing = false;
    const bytes = this.#bytes;
    const used = this.#used;
    const stream = this.#owner.stream();
    if (bytes === undefined || used === 0 || stream === undefined) return;
    this.#used = 0;
    const writing = stream.write(bytes.subarray(0, used));
    if (writing === undefined) return;
    this.#bytes = undefined;
    writing.then(() => {
      this.#spare = bytes;
    }, this.#owner.onRefused);
  }
}
