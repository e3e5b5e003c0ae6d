import type { Logger } from "../../base/host/host.js";
import { openSyslog, SYSLOG_PRIORITY } from "../../native/posix/daemon.js";
import { lineLogger } from "./log.js";
import type { Sink } from "./output.js";

/** Returns a logger for standard error; below systemd each line has its priority in front, as sd-daemon(3) says. */
export function foregroundLog(
  name: string,
  stderr: Sink,
  env: Readonly<Record<string, string | undefined>>,
  debug: boolean,
): Logger {
  const journal = env["JOURNAL_STREAM"] !== undefined;
  return lineLogger((level, line) => {
    if (level === "debug" && !debug) return;
    stderr.write(journal ? `<${SYSLOG_PRIORITY[level]}>${line}\n` : `${name}: ${level}: ${line}\n`);
  });
}

/** Returns a logger for the system's log. */
export function backgroundLog(name: string, debug: boolean): Logger {
  const write = openSyslog(name);
  return lineLogger((level, line) => {
    if (level !== "debug" || debug) write(SYSLOG_PRIORITY[level], line);
  });
}
