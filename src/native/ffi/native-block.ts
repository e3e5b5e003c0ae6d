import type { Koffi } from "./koffi.js";

/** Memory outside JavaScript's heap, for structures that point into themselves: neither moved nor collected. */
export class NativeBlock implements Disposable {
  /** Where it is. */
  readonly address: bigint;
  readonly #koffi: Koffi;
  #bytes: Buffer | undefined;

  /** @param size bytes, zeroed */
  constructor(koffi: Koffi, size: number) {
    this.#koffi = koffi;
    this.address = koffi.alloc("uint8_t", size) as bigint;
    this.#bytes = Buffer.from(koffi.view(this.address, size));
    this.#bytes.fill(0);
  }

  /** The memory itself: do not keep it. @throws Error after the release */
  get bytes(): Buffer {
    if (this.#bytes === undefined) throw new Error("the block of native memory is released");
    return this.#bytes;
  }

  /** Gives the memory back; may be called twice. */
  free(): void {
    if (this.#bytes === undefined) return;
    this.#bytes = undefined;
    this.#koffi.free(this.address);
  }

  /** The same, for `using`. */
  [Symbol.dispose](): void {
    this.free();
  }
}
