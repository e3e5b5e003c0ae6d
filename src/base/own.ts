/*
 * Tables and records by names from outside. `constructor` and `__proto__` are members of every object literal: whoever asks one for
 * a name that a host, a file or a user chose asks here. test/sources/own-entries.test.ts allows it nowhere else.
 */

/** Returns a table's own entry of that name; undefined where there is none, whatever every object inherits. */
export function ownEntry<T>(table: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return table !== undefined && Object.hasOwn(table, name) ? table[name] : undefined;
}

/** Returns a record its own entry of that name: `__proto__` is a name as any other, and no prototype. */
export function putEntry<T>(record: Record<string, T>, name: string, value: T): void {
  Object.defineProperty(record, name, { value, writable: true, enumerable: true, configurable: true });
}
