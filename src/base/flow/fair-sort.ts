import type { Call } from "./call.js";

/** Items that are sorted, or merged, without a pause: a millisecond's work. */
const RUN = 2048;

/**
 * Sorts texts by their UTF-16 units, as `sort()` does, into a new array, and leaves time for others while it does: a hundred
 * thousand take a tenth of a second.
 */
export async function fairSort(texts: readonly string[], call: Call): Promise<string[]> {
  if (texts.length <= RUN) return [...texts].sort();
  let runs: string[][] = [];
  for (let at = 0; at < texts.length; at += RUN) {
    await call.turn();
    runs.push(texts.slice(at, at + RUN).sort());
  }
  while (runs.length > 1) {
    const merged: string[][] = [];
    for (let at = 0; at < runs.length; at += 2)
      merged.push(await merge(runs[at] as string[], runs[at + 1] ?? [], call));
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge(left: readonly string[], right: readonly string[], call: Call): Promise<string[]> {
  const all: string[] = [];
  for (let l = 0, r = 0; l < left.length || r < right.length; ) {
    if (all.length % RUN === 0) await call.turn();
    const [a, b] = [left[l], right[r]];
    if (a !== undefined && (b === undefined || a <= b)) {
      all.push(a);
      l++;
    } else {
      all.push(b as string);
      r++;
    }
  }
  return all;
}
