import type { Duplex } from "node:stream";
import { encodeMessage, type XsMessage } from "../protocol/wire.js";

export type { XsMessage } from "../protocol/wire.js";

/** What the simulated daemon does wrong; may be changed at any time. */
export interface XenStoreFaults {
  /** So many commits of transactions are refused with EAGAIN; counts down. */
  conflicts?: number | undefined;
  /** Returns the error that a request is refused with, by its type's name (`WRITE`) and path; undefined: none. */
  refuse?: ((request: string, path: string) => string | undefined) | undefined;
  /** Milliseconds before each message that is sent. */
  delayMs?: number | undefined;
  /** Bytes of each piece that a message is sent in. */
  chunkBytes?: number | undefined;
  /** Returns what is sent in place of a message; undefined: nothing is. */
  mangle?: ((message: XsMessage) => Uint8Array | undefined) | undefined;
}

/** Sends messages in the order of the calls, as the faults have it. */
export class FaultySender {
  readonly #stream: Duplex;
  readonly #faults: XenStoreFaults;
  #sending: Promise<void> = Promise.resolve();

  constructor(stream: Duplex, faults: XenStoreFaults) {
    this.#stream = stream;
    this.#faults = faults;
  }

  send(message: XsMessage): void {
    const { mangle = encodeMessage, delayMs = 0, chunkBytes = Infinity } = this.#faults;
    const bytes = mangle(message);
    if (bytes === undefined) return;
    if (delayMs === 0 && chunkBytes === Infinity) this.#stream.write(bytes);
    else this.#sending = this.#sending.then(() => this.#slowly(bytes, delayMs, chunkBytes));
  }

  async #slowly(bytes: Uint8Array, delayMs: number, chunkBytes: number): Promise<void> {
    if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
    for (let at = 0; at < bytes.length && !this.#stream.destroyed; at += chunkBytes) {
      this.#stream.write(bytes.subarray(at, at + chunkBytes));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
