import type { TakeOptions } from "../contract/key-values.js";
import type { TakenValue } from "../contract/store.js";

/** Where a value can be taken: an interface, or a portable view. */
export interface TakeSource {
  /** Reads a value and erases it; resolves with undefined when there is none. */
  take(key: string, options?: TakeOptions): Promise<TakenValue | undefined>;
}

/** What became of a value that was delivered. */
export interface Delivered extends TakenValue {
  /** Why it may still be there: erasing it has failed. */
  readonly failure?: unknown;
}

/**
 * Takes a value and delivers it: once it is delivered, that it could not be erased is part of the answer and no error.
 * @param deliver is waited for; with `erase: "after"`, the default, the value is erased behind it
 * @returns undefined when there is no such key
 * @throws PvbusError as `take`, when nothing was delivered
 * @example
 * const taken = await deliverOnce(bus.portable("com.example.agent"), "token", (value) => install(value));
 * if (taken?.failure !== undefined) warn(taken.failure);
 */
export async function deliverOnce(
  source: TakeSource,
  key: string,
  deliver: (value: Uint8Array) => Promise<void>,
  options: Omit<TakeOptions, "deliver"> = {},
): Promise<Delivered | undefined> {
  let delivered: Uint8Array | undefined;
  try {
    return await source.take(key, {
      ...options,
      deliver: async (value) => {
        await deliver(value);
        delivered = value;
      },
    });
  } catch (failure) {
    if (delivered === undefined) throw failure;
    return { value: delivered, erased: "no", failure };
  }
}
