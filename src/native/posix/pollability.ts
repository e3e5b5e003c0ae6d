import { isMainThread } from "node:worker_threads";
import { pvbusError } from "../../base/errors.js";
import { closeMade } from "../ffi/descriptor.js";
import type { Libc } from "../ffi/libc.js";

/** How to wait for a descriptor: an event handle of libuv, or poll(2) on a thread of the pool. */
export type PollMechanism = "handle" | "call";

/* sys/epoll.h of Linux. */
const EPOLL_CLOEXEC = 0x8_0000;
const EPOLL_CTL_ADD = 1;
const EPOLLIN = 1;
/** Large enough for both forms of struct epoll_event: 12 bytes packed on x86-64, 16 elsewhere; events u32 at 0. */
const EPOLL_EVENT_SIZE = 16;

/* sys/event.h of FreeBSD, OpenBSD and macOS: ident u64 at 0, filter i16 at 8, flags u16 at 10; 64 bytes on FreeBSD. */
const KEVENT_SIZE = 64;
const EVFILT_READ = -1;
const EV_ADD = 1;

/**
 * Returns the way to wait for a descriptor, tried on a private epoll or kqueue first: libuv aborts the process for one
 * that its own refuses. Not verified by a run outside Linux.
 * @throws PvbusError `ERR_NOT_SUPPORTED` when there is nothing to wait for (a regular file, `/dev/null`, Windows);
 *   a system error (`EBADF`, `EMFILE`, …) otherwise
 */
export function pollMechanism(
  libc: Libc,
  fd: number,
  platform: NodeJS.Platform = process.platform,
  versions: Readonly<Record<string, string | undefined>> = process.versions,
): PollMechanism {
  if (platform === "win32") throw notPollable(fd, undefined);
  const refusal = platform === "linux" ? refusedByEpoll(libc, fd) : refusedByKqueue(libc, fd);
  if (refusal === "EBADF") throw libc.systemError("poll", libc.errnoNumber("EBADF"));
  // Files without a poll function: poll(2) calls them readable for ever.
  if (refusal === "EPERM" && platform === "linux") {
    throw notPollable(fd, libc.systemError("epoll_ctl", libc.errnoNumber("EPERM")));
  }
  // Bun panics on koffi's handles, and Node dies when a worker thread ends with an open one.
  const mayHandle = versions["bun"] === undefined && isMainThread;
  return refusal === undefined && mayHandle ? "handle" : "call";
}

function notPollable(fd: number, cause: Error | undefined): Error {
  return pvbusError(
    "ERR_NOT_SUPPORTED",
    `descriptor ${fd} cannot be waited for: it is no pipe, socket, terminal or device with events; read it directly`,
    { cause },
  );
}

/** Tries a private epoll; returns the symbolic errno of a refusal. */
function refusedByEpoll(libc: Libc, fd: number): string | undefined {
  const event = Buffer.alloc(EPOLL_EVENT_SIZE);
  event.writeUInt32LE(EPOLLIN, 0);
  return tryQueue(libc, libc.call(libc.function("int epoll_create1(int)"), EPOLL_CLOEXEC), (queue) =>
    libc.call(libc.function("int epoll_ctl(int, int, int, void *)"), queue, EPOLL_CTL_ADD, fd, event),
  );
}

/** The same with a kqueue. */
function refusedByKqueue(libc: Libc, fd: number): string | undefined {
  const change = Buffer.alloc(KEVENT_SIZE);
  change.writeBigUInt64LE(BigInt(fd), 0);
  change.writeInt16LE(EVFILT_READ, 8);
  change.writeUInt16LE(EV_ADD, 10);
  const kevent = libc.function("int kevent(int, const void *, int, void *, int, const void *)");
  return tryQueue(libc, libc.call(libc.function("int kqueue()")), (queue) =>
    libc.call(kevent, queue, change, 1, null, 0, null),
  );
}

/** Adds to a queue and closes it, which takes the addition back. */
function tryQueue(
  libc: Libc,
  made: { readonly rc: number; readonly errno: number },
  add: (queue: number) => { readonly rc: number; readonly errno: number },
): string | undefined {
  if (made.rc < 0) return libc.errnoName(made.errno);
  const { rc, errno } = add(made.rc);
  closeMade(libc, made.rc);
  return rc < 0 ? libc.errnoName(errno) : undefined;
}
