import { type Random, random } from "../support/campaign.js";

/** An input that begins with this byte and a scale below {@link SCALES} is the rest of it, repeated. */
const REPEATED = 0xff;
/** The largest repeated input has 1 KiB << 5: what takes the square of its length shows at that size. */
const SCALES = 6;
/** Longer inputs are not cut into single bytes. */
const MAX_SINGLE_BYTES = 4096;

/** Bytes of the fuzzer, taken apart from the front; behind the end all are zero. */
export class Input {
  readonly #bytes: Buffer;
  #at = 0;

  /** @param data as the engine gives it, before repetition */
  constructor(data: Uint8Array) {
    this.#bytes = repeated(Buffer.from(data));
  }

  /** How many bytes are left. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** Takes a byte. */
  byte(): number {
    return this.#bytes[this.#at++] ?? 0;
  }

  /** Takes a byte as a number below `end`, which is 256 at most. */
  below(end: number): number {
    return this.byte() % end;
  }

  /** Takes a byte as a yes or no. */
  flag(): boolean {
    return this.below(2) === 1;
  }

  /** Takes a 32-bit number. */
  word(): number {
    return (this.byte() | (this.byte() << 8) | (this.byte() << 16) | (this.byte() << 24)) >>> 0;
  }

  /** Takes one of the given. */
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  /** Takes as many bytes as there are up to `length`. */
  take(length: number): Buffer {
    const at = Math.min(this.#at, this.#bytes.length);
    this.#at = Math.min(at + length, this.#bytes.length);
    return Buffer.from(this.#bytes.subarray(at, this.#at));
  }

  /** Takes so many bytes as the next one says. */
  field(): Buffer {
    return this.take(this.byte());
  }

  /** Takes all that is left. */
  rest(): Buffer {
    return this.take(this.left);
  }

  /** Takes all that is left as UTF-8. */
  text(): string {
    return this.rest().toString("utf8");
  }

  /** Takes a field as text, in an encoding that its first byte chooses: UTF-16 may hold lone surrogates. */
  word16(): string {
    return textOf(this.field());
  }

  /** Takes all that is left in the same way. */
  rest16(): string {
    return textOf(this.rest());
  }

  /** Takes a byte as the seed of further choices. */
  random(): Random {
    return random(this.byte());
  }
}

function textOf(bytes: Buffer): string {
  const encodings = ["utf8", "latin1", "utf16le"] as const;
  if (bytes.length === 0) return "";
  return bytes.toString(encodings[(bytes[0] as number) % encodings.length], 1);
}

function repeated(data: Buffer): Buffer {
  const [first, scale = SCALES] = data;
  if (first !== REPEATED || scale >= SCALES || data.length < 3) return data;
  return Buffer.alloc(1024 << scale, data.subarray(2));
}

/** Cuts bytes into pieces, as a stream may bring them: single bytes, or pieces of random size. */
export function pieces(bytes: Buffer, choice: Random): Buffer[] {
  const isSingle = bytes.length <= MAX_SINGLE_BYTES && choice.below(4) === 0;
  const most = isSingle ? 1 : choice.pick([4, 32, 1024, 65_536]);
  const cut: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + choice.below(most);
    cut.push(bytes.subarray(at, end));
    at = end;
  }
  return cut;
}
