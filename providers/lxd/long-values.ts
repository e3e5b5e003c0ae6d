import { PvbusError } from "../../src/base/errors.js";

/** Stands for a value that is longer than what is taken. */
export const TOO_LONG: unique symbol = Symbol("too long");

/** Returns {@link TOO_LONG} in place of the error: one long value ends no listing and no watch. */
export async function ifNotTooLong<T>(asked: Promise<T>): Promise<T | typeof TOO_LONG> {
  try {
    return await asked;
  } catch (error) {
    if (PvbusError.is(error) && error.code === "ERR_VALUE_TOO_LONG") return TOO_LONG;
    throw error;
  }
}
