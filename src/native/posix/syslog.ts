import { type KoffiLoader, loadKoffi } from "../ffi/koffi.js";
import { openLibc } from "../ffi/open-libc.js";

/** Priorities (syslog.h of every system served). */
export const SYSLOG_PRIORITY = { error: 3, warn: 4, info: 6, debug: 7 } as const;

const LOG_PID = 0x01;
const LOG_USER = 1 << 3;
/** Longest message that old syslog daemons take whole, in bytes. */
const LONGEST_MESSAGE = 1024;

/** openlog keeps the pointer: the bytes stay for the life of the process. */
const idents: Buffer[] = [];

/** Writes to the system's log. */
export type SyslogWriter = (priority: number, message: string) => void;

/**
 * Opens the system's log, facility user, with the process's number on every line.
 * @param ident name in front of every line
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function openSyslog(ident: string, loader: KoffiLoader = loadKoffi): SyslogWriter {
  const libc = openLibc(loader);
  const name = Buffer.from(`${ident}\0`);
  idents.push(name);
  libc.function("void openlog(void *, int, int)")(name, LOG_PID, LOG_USER);
  const syslog = libc.function("void syslog(int, const char *, ...)");
  return (priority, message) => {
    // The text is an argument, never the format.
    syslog(priority, "%s", "str", message.replaceAll("\0", "").slice(0, LONGEST_MESSAGE));
  };
}
