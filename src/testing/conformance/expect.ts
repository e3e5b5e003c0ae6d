import assert from "node:assert/strict";
import { PvbusError, type PvbusErrorCode } from "../../base/errors.js";

export interface FailureShape {
  readonly codes: readonly PvbusErrorCode[];
  /** The key that the failure is about, as the caller gave it. */
  readonly key?: string | undefined;
  readonly cause?: unknown;
  /** Whether it came through the interface, which names itself. */
  readonly named?: boolean | undefined;
}

export type Outcome<T> = { readonly value: T } | { readonly error: unknown };

/** A message may quote a key, not repeat a megabyte of it. */
const LONGEST_MESSAGE = 4096;

/** Fails unless the promise settles in time: a store that hangs must fail its clause, not stop the whole run. */
export async function soon<T>(promise: Promise<T>, patienceMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `${what} does not end within ${patienceMs} ms`;
    timer = setTimeout(() => reject(new assert.AssertionError({ message })), patienceMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Checks that a value is a well-made error of ours. */
export function assertFailure(error: unknown, shape: FailureShape, what: string): void {
  const found = error instanceof Error ? `${error.name}: ${error.message}` : typeof error;
  assert.ok(PvbusError.is(error), `${what}: the failure must be a PvbusError, it is ${found}`);
  const { code, message } = error;
  const expected = shape.codes.join(" or ");
  assert.ok(shape.codes.includes(code), `${what}: expected ${expected}, got ${code}: ${found}`);
  assert.ok(message.trim() !== "", `${what}: the message is empty`);
  assert.ok(message.length <= LONGEST_MESSAGE, `${what}: the message has ${message.length} characters`);
  if (shape.named) assert.equal(error.interface, "pvbus0", `${what}: the failure names another interface`);
  if (shape.key !== undefined) assert.ok(error.key === shape.key, `${what}: the failure names another key`);
  if ("cause" in shape) assert.equal(error.cause, shape.cause, `${what}: the cause is another one`);
}

/** Runs an operation to its end, whichever; a hook that throws at once counts like one that rejects. */
export async function settle<T>(operation: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await operation() };
  } catch (error) {
    return { error };
  }
}
