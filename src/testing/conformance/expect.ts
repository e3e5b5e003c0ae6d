import assert from "node:assert/strict";
import { inspect } from "node:util";
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
/** Of one error in the message of a failure. */
const LONGEST_SHOWN = 500;
const DEEPEST_CAUSE = 4;

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
export function assertFailure(
  error: unknown,
  shape: FailureShape,
  what: string,
): asserts error is PvbusError {
  const check = (fits: boolean, why: string): void => {
    if (!fits) failed(`${what}: ${why}`, error);
  };
  if (!PvbusError.is(error)) return failed(`${what}: the failure must be a PvbusError`, error);
  const { code, message } = error;
  check(shape.codes.includes(code), `expected ${shape.codes.join(" or ")}`);
  check(message.trim() !== "", "the message is empty");
  check(message.length <= LONGEST_MESSAGE, `the message has ${message.length} characters`);
  check(shape.named !== true || error.interface === "pvbus0", "the failure names another interface");
  check(shape.key === undefined || error.key === shape.key, "the failure names another key");
  check(!("cause" in shape) || error.cause === shape.cause, "the cause is another one");
}

/** Fails for an error that must not come, or not so: its text stands in the message, and the error itself is the cause. */
export function failed(what: string, error: unknown): never {
  const message = `${what}; what came is ${shownError(error)}`;
  throw Object.assign(new assert.AssertionError({ message }), { cause: error });
}

/** Returns what an error says, and what it came from. */
function shownError(error: unknown): string {
  const parts: string[] = [];
  for (let each = error; each !== undefined && parts.length < DEEPEST_CAUSE; ) {
    let text = inspect(each, { depth: 1 });
    let next: unknown;
    if (each instanceof Error) {
      const { name, message, code, cause } = each as NodeJS.ErrnoException;
      text = `${name}${code === undefined ? "" : ` (${code})`}: ${message}`;
      next = cause;
    }
    parts.push(text.slice(0, LONGEST_SHOWN));
    each = next;
  }
  return parts.join(", from ");
}

/** Runs an operation to its end, whichever; a hook that throws at once counts like one that rejects. */
export async function settle<T>(operation: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await operation() };
  } catch (error) {
    return { error };
  }
}
