import type { Answer } from "./answer.js";

/*
 * Lines outside frames: version 1 of the protocol, which only reads and lists, and the words of the negotiation. A value is a
 * block of lines that a single dot ends; a line that begins with a dot has one more in front.
 */

/** What a client sends to have a shared line answered: hosts say {@link INVALID_COMMAND} to it. */
export const EMPTY_LINE = "\n";
/** The answer to an empty line and to commands without what they need. */
export const INVALID_COMMAND = "invalid command";
/** Asks for version 2. */
export const NEGOTIATE = "NEGOTIATE V2\n";
/** Grants version 2. */
export const VERSION_2 = "V2_OK";

const END = ".";
const LF = 0x0a;
const FIRST_BYTES = 256;

/** Returns a request of version 1; it has GET and KEYS alone. */
export function encodePlainRequest(command: "GET" | "KEYS", key = ""): Buffer {
  return Buffer.from(command === "GET" ? `GET ${key}\n` : "KEYS\n");
}

/** Returns the answer of version 1 that carries a value. */
export function encodePlainValue(value: Uint8Array): Buffer {
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1");
  return Buffer.from(`SUCCESS\n${text.replace(/(^|\n)\./g, "$1..")}\n.\n`, "latin1");
}

/** Reads one answer of version 1, line by line. */
export class PlainAnswerReader {
  readonly #maxBytes: number;
  #isValue = false;
  /** The value so far with a line end behind each line, as far as it is kept. */
  #value: Buffer = Buffer.alloc(0);
  #bytes = 0;

  /** @param maxBytes longest value that is kept; a longer one counts as a failure */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Takes a line without its end; returns the answer when it is complete. The bytes are copied. */
  take(line: Buffer): Answer | undefined {
    if (!this.#isValue) return this.#first(line.toString("latin1").trimEnd());
    const isDotted = line[0] === END.charCodeAt(0);
    // A carriage return may be the value's own, not so one behind the end.
    if (isDotted && line.length <= 2 && line.toString("latin1").trimEnd() === END) return this.#complete();
    this.#append(isDotted ? line.subarray(1) : line);
    return undefined;
  }

  #append(content: Buffer): void {
    const at = this.#bytes;
    this.#bytes += content.length + 1;
    if (this.#bytes > this.#maxBytes + 1) return;
    if (this.#bytes > this.#value.length) {
      const grown = Buffer.alloc(Math.max(this.#bytes, 2 * this.#value.length, FIRST_BYTES));
      this.#value.copy(grown, 0, 0, at);
      this.#value = grown;
    }
    content.copy(this.#value, at);
    this.#value[this.#bytes - 1] = LF;
  }

  #first(word: string): Answer | undefined {
    if (word === "SUCCESS") {
      this.#isValue = true;
      return undefined;
    }
    return word === "NOTFOUND" ? { kind: "missing" } : { kind: "failure", message: word };
  }

  #complete(): Answer {
    // The last line's end is not the value's.
    const bytes = Math.max(0, this.#bytes - 1);
    if (bytes > this.#maxBytes) {
      const message = `the value has ${bytes} bytes, ${this.#maxBytes} are taken`;
      return { kind: "failure", message };
    }
    return { kind: "success", value: this.#value.subarray(0, bytes) };
  }
}
