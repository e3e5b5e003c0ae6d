import { Bench } from "tinybench";

/** Returns the middle value. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Measures an action many times; gives the median in ms. */
export async function time(action: () => unknown): Promise<number> {
  return (await times(action)).median;
}

/** What an action took, in ms. */
export interface Times {
  /** The quickest run: what the action needs where nothing disturbs it. */
  readonly min: number;
  readonly median: number;
}

/** Measures an action many times. */
export async function times(action: () => unknown): Promise<Times> {
  const bench = new Bench({ time: 400, warmupTime: 100, iterations: 5, warmupIterations: 1 });
  bench.add("it", async () => {
    await action();
  });
  const [task] = await bench.run();
  const result = task?.result as { latency?: { min: number; p50: number }; error?: Error } | undefined;
  if (result?.latency === undefined) throw result?.error ?? new Error("nothing was measured");
  return { min: result.latency.min, median: result.latency.p50 };
}

/** Formats milliseconds. */
export function ms(value: number): string {
  return value >= 1 ? value.toFixed(1) : value.toPrecision(2);
}

/** Prints a line of a table. */
export function row(...cells: readonly string[]): void {
  console.log(cells.map((cell, i) => (i === 0 ? cell.padEnd(30) : cell.padStart(15))).join(""));
}
