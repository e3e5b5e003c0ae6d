/**
 * Leaves the running test, or from a `before` hook its whole suite, pending, and tells what is missing: the summary of
 * `npm test` lists it, and fails a pending test that says nothing.
 */
export function pending(self: Mocha.Context, missing: string): never {
  const runnable = self.test as (Mocha.Runnable & { type?: string }) | undefined;
  Object.assign((runnable?.type === "hook" ? runnable.parent : runnable) ?? {}, { missing });
  console.warn(`      pending: ${missing}`);
  return self.skip();
}
