import { readFile } from "node:fs/promises";
import { fromSystemError } from "../../../src/base/system-error.js";
import type { CommandIo } from "../../../src/contract/command.js";

export interface HostOptions {
  readonly state?: string;
  /** Guests: names, with `=ENDPOINT` for `serve`. */
  readonly guest?: readonly string[];
  readonly config?: string;
}

export function stateOf(io: CommandIo, { state }: HostOptions): string {
  if (state) return state;
  throw io.usage("host: name the directory of the guests' keys with --state DIR");
}

/** Reads a JSON file that the user wrote. @throws wrong usage when it is none; PvbusError when it cannot be read */
export async function readDocument(io: CommandIo, path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw fromSystemError(error, { doing: `cannot read ${path}` });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw io.usage(`${path} is no JSON: ${(error as Error).message}`);
  }
}

/** Runs what reads the user's words: their mistakes are wrong usage. */
export function usage<T>(io: CommandIo, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) throw io.usage(error.message);
    throw error;
  }
}
