/** Longest stretch of our own work between two turns of the event loop; the rule is 10 ms, the rest is one step's room. */
const BUDGET_MS = 4;

let began: number | undefined;
let next: Promise<void> | undefined;

/**
 * Gives the event loop its turn where this process's calls have kept it for too long. Promises that settle at once never
 * let a timer fire, so every loop over synchronous work asks here before each step of at most a few milliseconds.
 * @returns undefined when there is time left; else a promise to wait for
 */
export function fairTurn(): Promise<void> | undefined {
  if (began === undefined) {
    began = performance.now();
    setImmediate(forget);
    return undefined;
  }
  return performance.now() - began < BUDGET_MS ? undefined : turnOver();
}

function forget(): void {
  began = undefined;
}

/** All who wait go on in the same turn, one step each: whoever finds the time used up again waits again. */
async function turnOver(): Promise<void> {
  do {
    next ??= new Promise((resolve) => {
      setImmediate(() => {
        next = undefined;
        began = undefined;
        resolve();
      });
    });
    await next;
  } while (fairTurn() !== undefined);
}
