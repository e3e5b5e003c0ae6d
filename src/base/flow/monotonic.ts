/**
 * Returns the milliseconds of a clock that never goes back. Not `performance.now()`: with its first use Node loads all observers of
 * performance, which costs a start more than a millisecond.
 */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
