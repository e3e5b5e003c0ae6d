import { randomInt } from "node:crypto";
import { appendFileSync } from "node:fs";

/** Whether this is `npm run test:long` or `npm run campaign`, where campaigns take their full time. */
export const isLong = process.env["PVBUS_LONG"] === "1";

const given = (name: string): number | undefined => {
  const text = process.env[name];
  if (text === undefined || text === "") return undefined;
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} must be a number, not "${text}"`);
  return value;
};

/** Returns a campaign's time in seconds: its short form, its long form, or what `PVBUS_SECONDS` asks for. */
export function budget(short: number, long: number): number {
  return given("PVBUS_SECONDS") ?? (isLong ? long : short);
}

/** Returns how often a campaign repeats: as `budget` does for seconds, with `PVBUS_COUNT` by hand. */
export function count(short: number, long: number): number {
  return given("PVBUS_COUNT") ?? (isLong ? long : short);
}

/** Prints a line, in the summary of `npm test` too, which shows of a file that passed no more than this. */
export function note(text: string): void {
  console.log(`      ${text}`);
  const events = process.env["PVBUS_TEST_EVENTS"];
  if (events !== undefined) appendFileSync(events, `${JSON.stringify({ event: "note", text })}\n`);
}

/** The seed, and the file that it is for: the runner may have several in one process. */
let chosen: { readonly file: string | undefined; readonly seed: number } | undefined;

/**
 * Returns this test file's seed, from `PVBUS_SEED` or by chance. It is printed when first asked for, so that a failed
 * campaign's output says how to repeat it.
 */
export function seed(): number {
  const file = process.env["PVBUS_TEST_RUN"];
  if (chosen !== undefined && chosen.file === file) return chosen.seed;
  chosen = { file, seed: (given("PVBUS_SEED") ?? randomInt(2 ** 32)) >>> 0 };
  note(`PVBUS_SEED=${chosen.seed} repeats this run`);
  return chosen.seed;
}

/** Numbers that follow from a seed alone. */
export interface Random {
  /** Returns a fraction from 0 up to, and without, 1. */
  (): number;
  /** Returns a whole number from 0 up to, and without, `end`. */
  below(end: number): number;
  /** Returns one of the given. */
  pick<T>(choices: readonly T[]): T;
  /** Returns that many bytes. */
  bytes(length: number): Uint8Array;
}

/** Returns a generator whose numbers follow from the seed alone: a Weyl sequence, each step mixed. */
export function random(from: number = seed()): Random {
  let state = from >>> 0;
  const next = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
  const below = (end: number) => Math.floor(next() * end);
  return Object.assign(next, {
    below,
    pick: <T>(choices: readonly T[]): T => {
      if (choices.length === 0) throw new Error("there is nothing to choose from");
      return choices[below(choices.length)] as T;
    },
    bytes: (length: number) => Uint8Array.from({ length }, () => below(256)),
  });
}

/** Prints how much a campaign did, as every campaign does at its end. */
export function report(name: string, done: Readonly<Record<string, number | string>>): void {
  const figures = Object.entries(done).map(([what, figure]) => `${figure} ${what}`);
  note(`${name}: ${figures.join(", ")}`);
}

/**
 * Returns mocha's time limit in milliseconds for a campaign of that many seconds: many times its time, for a busy machine;
 * none where `PVBUS_COUNT` decides by hand how long it takes.
 */
export function patience(seconds: number): number {
  return given("PVBUS_COUNT") === undefined ? 60_000 + seconds * 4000 : 0;
}

/**
 * Repeats a step until the campaign's seconds are over, or the count that `PVBUS_COUNT` asks for by hand is reached, and
 * returns how often it ran. A step that gives true is the last.
 * @param atLeast how often it runs on a machine too busy to do so in time; default once
 */
export async function repeat(
  seconds: number,
  // biome-ignore lint/suspicious/noConfusingVoidType: most steps give nothing
  step: (round: number) => Promise<boolean | void>,
  atLeast = 1,
): Promise<number> {
  const wanted = given("PVBUS_COUNT");
  const end = performance.now() + seconds * 1000;
  let round = 0;
  while (wanted === undefined ? round < atLeast || performance.now() < end : round < wanted)
    if ((await step(round++)) === true) break;
  return round;
}
