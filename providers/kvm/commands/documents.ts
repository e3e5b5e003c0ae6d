import { readFile } from "node:fs/promises";
import { fromSystemError } from "../../../src/base/system-error.js";
import { UsageError } from "../../../src/cli/io/context.js";

/** Reads a JSON file that the user wrote. @throws UsageError when it is none; PvbusError when it cannot be read */
export async function readDocument(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot read ${path}` });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${path} is no JSON: ${(error as Error).message}`);
  }
}

/** Runs what reads the user's words: their mistakes are wrong usage. */
export function usage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw new UsageError(error.message);
    throw error;
  }
}
