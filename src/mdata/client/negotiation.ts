import { PvbusError } from "../../base/errors.js";
import { Backoff } from "../../base/flow/backoff.js";
import { Call } from "../../base/flow/call.js";
import { Notifier } from "../../base/flow/notifier.js";
import { EMPTY_LINE, INVALID_COMMAND, NEGOTIATE, VERSION_2 } from "../plain.js";
import type { LineStream } from "./transport.js";

/** So long nobody speaks before a shared line counts as quiet. */
const QUIET_MS = 500;
/** First wait for the answer to an empty line; the waits grow, the host may be slow or just starting. */
const FIRST_TRY_MS = 250;
const LONGEST_TRY_MS = 2_000;
/** Longest line that means anything here. */
const WORD_BYTES = 64;

/**
 * @param isShared whether an earlier program may have left half a request, or answers to its own
 * @throws PvbusError `ERR_TIMEOUT` when nobody answers within the call, `ERR_DISCONNECTED` when the connection ends, `ERR_ABORTED`
 */
export async function negotiate(line: LineStream, isShared: boolean, call: Call): Promise<1 | 2> {
  const words = new Words(line);
  try {
    if (isShared) await clear(line, words, call);
    await line.write(Buffer.from(NEGOTIATE), call);
    const isGranted = (word: string): boolean => word.endsWith(VERSION_2);
    const first = await words.next(call);
    if (isGranted(first)) return 2;
    // A line used before may still bring answers to what others asked, and to empty lines that seemed lost.
    if (isShared && (await words.find(isGranted, call, () => partOf(call, QUIET_MS)))) return 2;
    return 1;
  } finally {
    words.stop();
  }
}

/** An empty line ends whatever half a request stands there; its answer is the first line that is surely meant for us. */
async function clear(line: LineStream, words: Words, call: Call): Promise<void> {
  const waits = new Backoff({ firstMs: FIRST_TRY_MS, longestMs: LONGEST_TRY_MS, jitter: 0 });
  for (let isClear = false; !isClear; ) {
    await line.write(Buffer.from(EMPTY_LINE), call);
    const one = partOf(call, waits.next());
    isClear = await words.find(
      (word) => word.endsWith(INVALID_COMMAND),
      call,
      () => one,
    );
  }
}

/** A call of at most so many milliseconds within another one. */
function partOf({ signal, remainingMs }: Call, ms: number): Call {
  return new Call({ signal, timeoutMs: Math.min(ms, remainingMs) });
}

class Words {
  readonly #line: LineStream;
  readonly #words: string[] = [];
  readonly #news = new Notifier();

  constructor(line: LineStream) {
    this.#line = line;
    line.onLine = ({ bytes }) => {
      // Frames of others and long lines mean nothing; the last one counts, so that a flood costs nothing.
      if (bytes.length > WORD_BYTES) return;
      const word = bytes.toString("latin1").trimEnd();
      if (word.startsWith("V2 ")) return;
      this.#words.push(word);
      if (this.#words.length > WORD_BYTES) this.#words.shift();
      this.#news.notify();
    };
    line.onEnd = this.#news.notify;
  }

  async next(call: Call): Promise<string> {
    for (;;) {
      const word = this.#words.shift();
      if (word !== undefined) return word;
      if (!this.#line.isOpen) throw this.#line.lost();
      await this.#news.wait(call, "the host's answer");
    }
  }

  /** Passes lines over until one fits; false when the part of the call that one may take is over. */
  async find(fits: (word: string) => boolean, call: Call, part: () => Call): Promise<boolean> {
    try {
      while (!fits(await this.next(part())));
      return true;
    } catch (error) {
      if (!PvbusError.is(error) || error.code !== "ERR_TIMEOUT") throw error;
      call.check("the host's answer");
      return false;
    }
  }

  stop(): void {
    this.#line.onLine = () => undefined;
    this.#line.onEnd = () => undefined;
  }
}
