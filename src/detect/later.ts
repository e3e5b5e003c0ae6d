import { inspect } from "node:util";

/** What stands for each entry until somebody asks for it. */
type Answers<T> = { readonly [K in keyof T]: () => T[K] };

/**
 * Adds entries whose values are worked out when they are first asked for, and then kept: they are the object's own, so that
 * copies, JSON and comparisons have them as all others.
 */
export function withLater<T extends object, L extends object>(of: T, later: Answers<L>): T & L {
  for (const [name, answer] of Object.entries<() => unknown>(later as Record<string, () => unknown>)) {
    let kept: { readonly value: unknown } | undefined;
    Object.defineProperty(of, name, {
      get: () => {
        kept ??= { value: answer() };
        return kept.value;
      },
      enumerable: true,
      configurable: true,
    });
  }
  // Printed for people, an entry would be a mere "[Getter]".
  Object.defineProperty(of, inspect.custom, { value: () => ({ ...of }) });
  return of as T & L;
}
