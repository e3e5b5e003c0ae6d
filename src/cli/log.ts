import type { Logger } from "../host/host.js";
import { jsonText, type Sink, visible } from "./output.js";

/** How grave a message is. */
export type Level = keyof Logger;

/** Gives a logger whose messages arrive as lines, their fields as JSON behind. */
export function lineLogger(write: (level: Level, line: string) => void): Logger {
  const log =
    (level: Level) =>
    (message: string, fields?: Readonly<Record<string, unknown>>): void => {
      write(level, `${visible(message)}${fields === undefined ? "" : ` ${jsonText(plainFields(fields))}`}`);
    };
  return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}

/** Gives a logger for standard error. */
export function stderrLogger(stderr: Sink): Logger {
  return lineLogger((level, line) => {
    stderr.write(`pvbus: ${level === "warn" ? "warning" : level}: ${line}\n`);
  });
}

/** Gives fields as JSON takes them: errors and big numbers are none, and a message must not fail for them. */
export function plainFields(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const plain = ([name, value]: [string, unknown]): [string, unknown] => {
    if (value instanceof Error) return [name, value.message];
    return [name, typeof value === "bigint" ? String(value) : value];
  };
  return Object.fromEntries(Object.entries(fields).map(plain));
}
