import type { Clock, Logger } from "../../base/host/host.js";
import { jsonText, type Sink, visible } from "./output.js";

type Level = keyof Logger;
type Fields = Readonly<Record<string, unknown>>;

function loggerOf(write: (level: Level, message: string, fields?: Fields) => void): Logger {
  const log =
    (level: Level) =>
    (message: string, fields?: Fields): void =>
      write(level, message, fields);
  return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}

/** Returns a logger whose messages arrive as lines, their fields as JSON behind. */
export function lineLogger(write: (level: Level, line: string) => void): Logger {
  return loggerOf((level, message, fields) => {
    write(level, `${visible(message)}${fields === undefined ? "" : ` ${fieldsText(fields)}`}`);
  });
}

/** Returns a logger for standard error. */
export function stderrLogger(stderr: Sink): Logger {
  return lineLogger((level, line) => {
    stderr.write(`pvbus: ${level === "warn" ? "warning" : level}: ${line}\n`);
  });
}

/** Returns fields as JSON: a message must not fail for what its fields hold. */
function fieldsText(fields: Fields): string {
  try {
    return jsonText(fields);
  } catch {
    // A circle, or a getter that throws: the names are better than nothing.
    return jsonText({ unprintable: Object.keys(fields) });
  }
}

/**
 * Returns a logger that writes one JSON object a line: time, level, event and what belongs to it. A line that cannot be written, on a
 * full disk for instance, is lost: the service goes on.
 */
export function jsonLogger(sink: Sink, clock: Clock, debug: boolean): Logger {
  return loggerOf((level, event, fields = {}) => {
    if (level === "debug" && !debug) return;
    const time = new Date(clock.now()).toISOString();
    try {
      sink.write(`${fieldsText({ time, level, event, ...fields })}
`);
    } catch {
      // There is nobody to tell.
    }
  });
}
