import { expect } from "chai";
import { PvbusError, type PvbusErrorCode } from "../../src/index.js";

/** Awaits a rejection with one of our errors of the given code and gives it. */
export async function rejects(promise: Promise<unknown>, code: PvbusErrorCode): Promise<PvbusError> {
  let outcome: unknown;
  try {
    outcome = { resolved: await promise };
  } catch (error) {
    outcome = error;
  }
  if (!PvbusError.is(outcome)) {
    expect.fail(
      `expected ${code}, got ${outcome instanceof Error ? outcome.stack : JSON.stringify(outcome)}`,
    );
  }
  expect(outcome.code, outcome.message).to.equal(code);
  return outcome;
}
