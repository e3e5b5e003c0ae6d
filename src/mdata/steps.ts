/** Work in steps of less than a millisecond: each `yield` is a place where somebody else may have his turn. */
export type Steps<T> = Generator<undefined, T, undefined>;

/** Does work to its end without a pause. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** Bytes that are looked at in one step. A multiple of 3, so that base64 of the parts is base64 of the whole. */
export const STEP_BYTES = 48 * 1024;

/** Cuts bytes into portions of one step each; they are views. */
export function* portionsOf(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += STEP_BYTES) yield bytes.subarray(at, at + STEP_BYTES);
}
