import { RECORD_SIZE } from "./codec.js";
import { type Stamp, sameStamp } from "./pool-file.js";
import type { ReadAt } from "./pool-index.js";
import { wholeRecords } from "./pool-layout.js";

const RECORDS = 32;

/** A stretch of records as they stand in a file while its stamp is the same, for whoever asks for one after the other. */
export class ReadAhead {
  #buffer: Buffer | undefined;
  #stamp: Stamp | undefined;
  #from = 0;
  #end = 0;

  /** Reports whether anything is held of the file's state. */
  isOf(stamp: Stamp): boolean {
    return this.#stamp !== undefined && sameStamp(this.#stamp, stamp);
  }

  /** Returns the record at an offset, a view that holds until the next {@link fill}. */
  record(stamp: Stamp, offset: number): Buffer | undefined {
    if (!this.isOf(stamp) || offset < this.#from || offset + RECORD_SIZE > this.#end) return undefined;
    return (this.#buffer as Buffer).subarray(offset - this.#from, offset - this.#from + RECORD_SIZE);
  }

  /** Reads on from an offset of a file in a settled state; `after` tells the state when it is read. */
  fill(stamp: Stamp, offset: number, read: ReadAt, after: () => Stamp): void {
    this.#buffer ??= Buffer.alloc(RECORDS * RECORD_SIZE);
    const wanted = Math.min(this.#buffer.length, wholeRecords(stamp.size) - offset);
    const count = read(this.#buffer.subarray(0, wanted), offset);
    this.#stamp = sameStamp(stamp, after()) ? stamp : undefined;
    this.#from = offset;
    this.#end = offset + wholeRecords(count);
  }
}
