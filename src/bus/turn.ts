import { WaitingLine } from "./waiting-line.js";

/** Longest stretch of our own work between two turns of the event loop; the rule is 10 ms, the rest is one step's room. */
const BUDGET_MS = 4;
/** What one caller gets of that at a time while others wait: so no call stands still for long beside many busy loops. */
const SLICE_MS = 0.5;

/** When the event loop must have its turn; undefined while nothing of ours has run in the present one. */
let turnEnd: number | undefined;
/** When the next one who waits goes on. */
let sliceEnd = 0;
/** Who waits to go on, in the order of coming. */
const waiting = new WaitingLine<() => void>();
let passing: Promise<void> | undefined;

/**
 * Tells whether there is time left to work on before the event loop, or somebody else who waits, must have a turn.
 * Promises that settle at once never let a timer fire, so whatever may be called in a loop asks here.
 */
export function mayGoOn(): boolean {
  if (turnEnd !== undefined) return performance.now() < sliceEnd;
  begin();
  return true;
}

/**
 * Calls `go` when the event loop has had its turn and everybody who asked before has had a slice of time. They go on one
 * after the other, each when the one before waits again or has nothing to do: all at once would add up their steps.
 * @returns what gives the place up
 */
export function waitTurn(go: () => void): () => void {
  if (turnEnd === undefined) begin();
  const place = (): void => go();
  waiting.push(place);
  return () => waiting.remove(place);
}

/**
 * Gives the event loop its turn where that is due, past everybody who waits for more: for a call that is to fail at once,
 * and whose caller may go on calling for ever.
 */
export function loopTurnIfDue(): Promise<void> | undefined {
  if (mayGoOn()) return undefined;
  passing ??= new Promise((resolve) => {
    setImmediate(() => {
      passing = undefined;
      resolve();
    });
  });
  return passing;
}

/**
 * Gives the event loop its turn where this process's calls have kept it for too long. To be asked before each step of
 * at most a few milliseconds.
 * @returns undefined when there is time left; else a promise to wait for
 */
export function fairTurn(): Promise<void> | undefined {
  return mayGoOn() ? undefined : new Promise((resolve) => void waitTurn(resolve));
}

/** Runs a call of the API to its end; one that fails at once gives the event loop its turn before it does. */
export async function fairly<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    await loopTurnIfDue();
    throw error;
  }
}

function begin(): void {
  turnEnd = performance.now() + BUDGET_MS;
  sliceEnd = turnEnd;
  setImmediate(afterTurn);
}

/** Timers, sockets and whoever is no business of ours have had their turn. */
function afterTurn(): void {
  turnEnd = undefined;
  if (waiting.length === 0) return;
  begin();
  release();
}

/** Lets the first of those who wait go on, and the next one as soon as it waits again. */
function release(): void {
  const now = performance.now();
  if (turnEnd === undefined || now >= turnEnd) return;
  const first = waiting.shift();
  if (first === undefined) return;
  sliceEnd = waiting.length === 0 ? turnEnd : Math.min(turnEnd, now + SLICE_MS);
  first();
  // A tick that is asked for by a microtask runs when no microtask is left: when the first one waits again.
  queueMicrotask(() => process.nextTick(release));
}
