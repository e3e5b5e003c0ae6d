/** Keys that nobody changes. */
export const STABLE_KEYS = 40;
/** Keys that all change. */
export const SHARED_KEYS = 4;

/** Returns what stands under a key that nobody changes. */
export function stableValue(at: number): string {
  return `stable ${at} `.repeat(1 + (at % 9) * 20).slice(0, 1022);
}

/** Returns a writer's n-th value of a key that all change. */
export function sharedValue(writer: string, number: number): string {
  return `${writer} ${number} `.repeat(1 + (number % 50)).slice(0, 1022);
}

/** What a process says in the end. */
export interface MixedResult {
  readonly actions: number;
  readonly faults: readonly string[];
  /** What it leaves under its own keys. */
  readonly own: Readonly<Record<string, string>>;
  /** The verb and the milliseconds of the slowest action. */
  readonly slowest: readonly [string, number];
}
