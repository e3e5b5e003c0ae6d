import { constants } from "node:fs";
import type { Libc } from "./libc.js";

/** fcntl's command for a duplicate that child processes do not inherit (fcntl.h of each system). */
const F_DUPFD_CLOEXEC: Partial<Record<NodeJS.Platform, number>> = {
  linux: 1030,
  android: 1030,
  darwin: 67,
  freebsd: 17,
  netbsd: 12,
  openbsd: 10,
};
/* fcntl.h of every system served. */
const F_GETFL = 3;
const F_SETFL = 4;

/**
 * Gives a second descriptor of the same open file, which child processes do not inherit.
 * @throws a system error, `EBADF` for what is no descriptor
 */
export function duplicate(libc: Libc, fd: number): number {
  const command = F_DUPFD_CLOEXEC[process.platform];
  const { rc, errno } =
    command === undefined
      ? libc.call(libc.function("int dup(int)"), fd)
      : libc.call(libc.function("int fcntl(int, int, ...)"), fd, command, "int", 0);
  if (rc < 0) throw libc.systemError("dup", errno);
  return rc;
}

/** Makes reads and writes of an open file return instead of waiting. @throws a system error */
export function setNonBlocking(libc: Libc, fd: number): void {
  const fcntl = libc.function("int fcntl(int, int, ...)");
  const flags = libc.call(fcntl, fd, F_GETFL, "int", 0);
  if (flags.rc < 0) throw libc.systemError("fcntl", flags.errno);
  if ((flags.rc & constants.O_NONBLOCK) !== 0) return;
  const set = libc.call(fcntl, fd, F_SETFL, "int", flags.rc | constants.O_NONBLOCK);
  if (set.rc < 0) throw libc.systemError("fcntl", set.errno);
}

/** Closes a descriptor of ours. */
export function closeDescriptor(libc: Libc, fd: number): void {
  libc.function("int close(int)")(fd);
}
