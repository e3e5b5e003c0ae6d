import type { Scope } from "./scope.js";

/** Longest text of one-byte characters that the store declares to take; undefined where it declares no limit. */
export function longestAscii({ capabilities }: Scope): number | undefined {
  const { maxValueUnits, maxValueBytes } = capabilities.limits ?? {};
  return smallest(maxValueUnits, maxValueBytes);
}

/** Returns text of three-byte characters that just fits, filled up with one-byte characters. */
export function longestNonAscii({ capabilities }: Scope): string | undefined {
  const { maxValueUnits = Infinity, maxValueBytes = Infinity } = capabilities.limits ?? {};
  const euros = Math.floor(Math.min(maxValueUnits, maxValueBytes / 3));
  if (euros === Infinity) return undefined;
  const rest = Math.min(maxValueUnits - euros, maxValueBytes - 3 * euros);
  return "\u20ac".repeat(euros) + "x".repeat(rest);
}

/** Returns a writable key whose counted part has `length` one-byte characters. */
export function keyOfLength(scope: Scope, length: number): string {
  const front = scope.keys.uncounted ?? "";
  return scope
    .key("k".repeat(Math.max(0, length - (scope.key().length - front.length))))
    .slice(0, front.length + length);
}

/** Longest key of one-byte characters that the store declares to take; undefined where it declares no limit. */
export function longestKey({ capabilities }: Scope): number | undefined {
  return smallest(capabilities.limits?.maxKeyUnits, capabilities.limits?.maxKeyBytes);
}

function smallest(a = Infinity, b = Infinity): number | undefined {
  const least = Math.min(a, b);
  return least === Infinity ? undefined : least;
}
