import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { EMPTY_LINE, INVALID_COMMAND, NEGOTIATE, VERSION_2 } from "../../../src/mdata/plain.js";
import type { HostLine } from "./host-line.js";

/** So long nobody speaks before a shared line counts as quiet. */
const QUIET_MS = 500;
/** First wait for the answer to an empty line; the waits grow, the host may be slow or just starting. */
const FIRST_TRY_MS = 250;
const LONGEST_TRY_MS = 2_000;
/** Longest line that means anything here. */
const WORD_BYTES = 64;

/**
 * Agrees on a version.
 * @param isShared whether an earlier program may have left half a request, or answers to its own
 * @throws PvbusError `ERR_TIMEOUT` when nobody answers within the call, `ERR_DISCONNECTED` when the link ends, `ERR_ABORTED`
 */
export async function negotiate(line: HostLine, isShared: boolean, call: Call): Promise<1 | 2> {
  const words = new Words(line);
  try {
    if (isShared) await clear(line, words, call);
    await line.write(Buffer.from(NEGOTIATE), call);
    const isGranted = (word: string): boolean => word.endsWith(VERSION_2);
    const first = await words.next(call);
    if (isGranted(first)) return 2;
    // A line used before may still bring answers to what others asked, and to empty lines that seemed lost.
    if (isShared && (await words.find(isGranted, call))) return 2;
    return 1;
  } finally {
    words.stop();
  }
}

/**
 * Makes a shared line begin anew: an empty line ends whatever half a request stands in it, and its answer is the first line that
 * is surely meant for us. What comes before is passed over.
 */
async function clear(line: HostLine, words: Words, call: Call): Promise<void> {
  for (let pause = FIRST_TRY_MS; ; pause = Math.min(pause * 2, LONGEST_TRY_MS)) {
    await line.write(Buffer.from(EMPTY_LINE), call);
    const one = new Call({ signal: call.signal, timeoutMs: Math.min(pause, call.remainingMs) });
    try {
      for (;;) {
        const word = await words.next(one);
        if (word.endsWith(INVALID_COMMAND)) return;
      }
    } catch (error) {
      if (!PvbusError.is(error) || error.code !== "ERR_TIMEOUT") throw error;
      call.check("the host's answer");
    }
  }
}

/** The lines of a negotiation, one after the other. */
class Words {
  readonly #line: HostLine;
  readonly #words: string[] = [];
  #wake = (): void => undefined;

  constructor(line: HostLine) {
    this.#line = line;
    line.onLine = ({ bytes }) => {
      // Frames of others and long lines mean nothing; the last one counts, so that a flood costs nothing.
      const word = bytes.length > WORD_BYTES ? "" : bytes.toString("latin1").trimEnd();
      if (word.startsWith("V2 ") || bytes.length > WORD_BYTES) return;
      this.#words.push(word);
      if (this.#words.length > WORD_BYTES) this.#words.shift();
      this.#wake();
    };
    line.onEnd = () => this.#wake();
  }

  /** Returns the next line. */
  async next(call: Call): Promise<string> {
    for (;;) {
      const word = this.#words.shift();
      if (word !== undefined) return word;
      if (!this.#line.isOpen) throw this.#line.lost();
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      await call.within(woken, "the host's answer");
    }
  }

  /** Passes lines over until one fits; false when nobody has spoken for a while. */
  async find(fits: (word: string) => boolean, call: Call): Promise<boolean> {
    for (;;) {
      const quiet = new Call({ signal: call.signal, timeoutMs: Math.min(QUIET_MS, call.remainingMs) });
      try {
        if (fits(await this.next(quiet))) return true;
      } catch (error) {
        if (!PvbusError.is(error) || error.code !== "ERR_TIMEOUT") throw error;
        call.check("the host's answer");
        return false;
      }
    }
  }

  stop(): void {
    this.#line.onLine = () => undefined;
    this.#line.onEnd = () => undefined;
  }
}

/** The error of a line on which nobody answers, by what was seen there. */
export function nobodyAnswers(name: string, seen: unknown): PvbusError {
  const isSilent = PvbusError.is(seen) && seen.code === "ERR_TIMEOUT";
  const what = isSilent
    ? `nobody answers on the metadata channel ${name}`
    : `nobody is at the other end of the metadata channel ${name}, or hangs up at once`;
  const fix = "start the host side for this machine (pvbus host serve), or see its log";
  return pvbusError("ERR_UNAVAILABLE", `${what}; ${fix}`, { cause: seen });
}
