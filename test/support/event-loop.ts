/** Keeps the event loop for so many milliseconds. */
export function work(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}
