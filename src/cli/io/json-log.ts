import type { Clock, Logger } from "../../base/host/host.js";
import { fieldsText, type Level } from "./log.js";
import type { Sink } from "./output.js";

/**
 * Returns a logger that writes one JSON object a line: time, level, event and what belongs to it. A line that cannot be written, on a
 * full disk for instance, is lost: the service goes on.
 */
export function jsonLogger(sink: Sink, clock: Clock, debug: boolean): Logger {
  const log =
    (level: Level) =>
    (event: string, fields: Readonly<Record<string, unknown>> = {}): void => {
      if (level === "debug" && !debug) return;
      const time = new Date(clock.now()).toISOString();
      const line = fieldsText({ time, level, event, ...fields });
      try {
        sink.write(`${line}\n`);
      } catch {
        // There is nobody to tell.
      }
    };
  return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}
