import { isTooLong } from "../../base/host/channel.js";
import { closeMade } from "../ffi/descriptor.js";
import { openLibc } from "../ffi/open-libc.js";

/** Priorities (syslog.h of every system served). */
export const SYSLOG_PRIORITY = { error: 3, warn: 4, info: 6, debug: 7 } as const;

const LOG_PID = 0x01;
const LOG_USER = 1 << 3;
/** Longest message that old syslog daemons take whole, in bytes. */
const LONGEST_MESSAGE = 1024;

/** openlog keeps the pointer: the bytes stay for the life of the process. */
const idents: Buffer[] = [];

export type SyslogWriter = (priority: number, message: string) => void;

/**
 * Opens the system's log, facility user, with the process's number on every line.
 * @param ident name in front of every line
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function openSyslog(ident: string): SyslogWriter {
  const libc = openLibc();
  const name = Buffer.from(`${ident}\0`);
  idents.push(name);
  libc.function("void openlog(void *, int, int)")(name, LOG_PID, LOG_USER);
  const syslog = libc.function("void syslog(int, const char *, ...)");
  return (priority, message) => {
    // The text is an argument, never the format.
    syslog(priority, "%s", "str", message.replaceAll("\0", "").slice(0, LONGEST_MESSAGE));
  };
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
/** Linux's flags, where systemd is. */
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

/**
 * Reports this service's state to systemd, as sd_notify(3) does: one datagram to the socket that `NOTIFY_SOCKET` names.
 * @param path absolute, or abstract with `@` in front
 * @param state lines such as `READY=1`
 * @returns whether it was taken; a service must not fail because nobody listens
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function notifySocket(path: string, state: string): boolean {
  if (!/^[@/]/.test(path) || isTooLong(path)) return false;
  const libc = openLibc();
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(path, "utf8")]);
  if (path.startsWith("@")) address[2] = 0;
  const socket = libc.function("int socket(int, int, int)")(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return false;
  try {
    const message = Buffer.from(state, "utf8");
    const sendto = libc.function("intptr_t sendto(int, const void *, size_t, int, const void *, uint32_t)");
    return sendto(socket, message, message.length, MSG_NOSIGNAL, address, address.length) === message.length;
  } finally {
    closeMade(libc, socket);
  }
}
