import { isDeepStrictEqual } from "node:util";
import { PvbusError } from "../../src/base/errors.js";
import { Input } from "./input.js";

/** Code that meets bytes from outside, and what holds of it for any bytes. */
export interface Target {
  /** Its name, also of its corpus. */
  readonly name: string;
  /** Feeds it, and checks what came out. */
  readonly run: (input: Input) => unknown;
  /** It waits: for promises, or for files. */
  readonly isAsync?: boolean;
  /** Errors that its documentation promises beside {@link PvbusError}: such as RangeError for what does not fit. */
  readonly throws?: readonly (new (
    ...args: never[]
  ) => Error)[];
  /** Inputs to begin with, beside those of the corpus. */
  readonly seeds?: () => readonly (Uint8Array | string)[];
}

/** What is wrong with the code under test. */
export class Finding extends Error {
  override name = "Finding";
}

/** No call takes longer, whatever it is given; the guided fuzzer counts the code's every step, and so takes its time. */
const LONGEST_MS = "PVBUS_FUZZ_TARGET" in process.env ? 500 : 100;
/** So often an input is slow before it counts. */
const ATTEMPTS = 6;

/**
 * What the engine and Node say when code misuses a value. A TypeError or RangeError with another text was thrown on
 * purpose.
 */
const MISUSE =
  /^Cannot |^Invalid |^Assignment |^Reduce of|^Maximum call|^The "|^The value of|^Attempt to|^The argument|is not (a function|iterable|an object|a constructor|defined|async iterable)|before initialization|does not (support|have)|out of (range|memory)|BigInt/;

/** Feeds a target once. @throws Finding when it does not keep its promise */
export function attempt(target: Target, data: Uint8Array): void | Promise<void> {
  return target.isAsync === true ? attemptLater(target, data) : attemptNow(target, data);
}

function attemptNow(target: Target, data: Uint8Array): void {
  const watch = new StopWatch();
  while (watch.goesOn()) {
    const input = new Input(data);
    watch.start();
    try {
      target.run(input);
    } catch (error) {
      judge(target, error);
    }
    watch.stop();
  }
}

async function attemptLater(target: Target, data: Uint8Array): Promise<void> {
  const watch = new StopWatch();
  while (watch.goesOn()) {
    const input = new Input(data);
    watch.start();
    try {
      await target.run(input);
    } catch (error) {
      judge(target, error);
    }
    watch.stop();
  }
}

/** Times a call, and has it repeated when it was slow: other programs may have had the processor. */
class StopWatch {
  #shortest = Infinity;
  #attempts = 0;
  #began = 0;
  #used = process.cpuUsage();

  /** Reports whether the call is due, for the first time or again. @throws Finding when it was slow each time */
  goesOn(): boolean {
    if (this.#shortest <= LONGEST_MS) return false;
    if (this.#attempts++ < ATTEMPTS) return true;
    throw new Finding(`one call took ${this.#shortest.toFixed(0)} ms, ${ATTEMPTS} times in a row`);
  }

  start(): void {
    this.#used = process.cpuUsage();
    this.#began = performance.now();
  }

  stop(): void {
    const elapsed = performance.now() - this.#began;
    const { user, system } = process.cpuUsage(this.#used);
    this.#shortest = Math.min(this.#shortest, elapsed, (user + system) / 1000);
  }
}

function judge({ throws = [] }: Target, error: unknown): void {
  if (error instanceof Finding) throw error;
  if (PvbusError.is(error)) return;
  if (throws.some((each) => error instanceof each) && !isMisuse(error)) return;
  const said = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  throw new Finding(`threw what is no PvbusError: ${said}`, { cause: error });
}

function isMisuse(error: unknown): boolean {
  const { message, code } = error as NodeJS.ErrnoException;
  return MISUSE.test(message) || (code?.startsWith("ERR_") ?? false);
}

/** Fails unless both are the same. */
export function same(found: unknown, expected: unknown, what: string): void {
  if (!isDeepStrictEqual(plain(found), plain(expected)))
    throw new Finding(`${what}: ${shown(found)} instead of ${shown(expected)}`);
}

/** Fails unless it holds. */
export function holds(condition: boolean, what: string): void {
  if (!condition) throw new Finding(what);
}

/** Bytes are compared as bytes, whatever class holds them. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("latin1");
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Map) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

function shown(value: unknown): string {
  const text = JSON.stringify(plain(value), (_, each) => (typeof each === "bigint" ? String(each) : each));
  return String(text).slice(0, 300);
}
