import type { Logger } from "../../base/host/host.js";
import { jsonText, type Sink, visible } from "./output.js";

/** How grave a message is. */
export type Level = keyof Logger;

/** Returns a logger whose messages arrive as lines, their fields as JSON behind. */
export function lineLogger(write: (level: Level, line: string) => void): Logger {
  const log =
    (level: Level) =>
    (message: string, fields?: Readonly<Record<string, unknown>>): void => {
      write(level, `${visible(message)}${fields === undefined ? "" : ` ${fieldsText(fields)}`}`);
    };
  return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}

/** Returns a logger for standard error. */
export function stderrLogger(stderr: Sink): Logger {
  return lineLogger((level, line) => {
    stderr.write(`pvbus: ${level === "warn" ? "warning" : level}: ${line}\n`);
  });
}

/** Returns fields as JSON: a message must not fail for what its fields hold. */
export function fieldsText(fields: Readonly<Record<string, unknown>>): string {
  try {
    return jsonText(fields);
  } catch {
    // A circle, or a getter that throws: the names are better than nothing.
    return jsonText({ unprintable: Object.keys(fields) });
  }
}
