import { isMainThread } from "node:worker_threads";
import { pvbusError } from "../../base/errors.js";
import { onAbort } from "../../base/flow/abort.js";
import type { Call } from "../../base/flow/call.js";
import { closeDescriptor, closeMade, duplicate } from "../ffi/descriptor.js";
import type { Libc, NativeArgument, NativeResult } from "../ffi/libc.js";
import {
  type Interest,
  openPollWaiter,
  type PollSource,
  type ReadyListener,
  watchByHandle,
} from "./poll-source.js";

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
  if (refusal === "EPERM" && platform === "linux")
    throw notPollable(fd, libc.systemError("epoll_ctl", libc.errnoNumber("EPERM")));
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
  const queue = libc.call("int epoll_create1(int)", EPOLL_CLOEXEC);
  return refusedBy(libc, queue, "int epoll_ctl(int, int, int, void *)", EPOLL_CTL_ADD, fd, event);
}

/** The same with a kqueue. */
function refusedByKqueue(libc: Libc, fd: number): string | undefined {
  const change = Buffer.alloc(KEVENT_SIZE);
  change.writeBigUInt64LE(BigInt(fd), 0);
  change.writeInt16LE(EVFILT_READ, 8);
  change.writeUInt16LE(EV_ADD, 10);
  const kevent = "int kevent(int, const void *, int, void *, int, const void *)";
  return refusedBy(libc, libc.call("int kqueue()"), kevent, change, 1, null, 0, null);
}

/** Adds to a queue that was just made and closes it, which takes the addition back. */
function refusedBy(
  libc: Libc,
  queue: NativeResult,
  adding: string,
  ...args: NativeArgument[]
): string | undefined {
  const { rc, errno } = queue.rc < 0 ? queue : libc.call(adding, queue.rc, ...args);
  if (queue.rc >= 0) closeMade(libc, queue.rc);
  return rc < 0 ? libc.errnoName(errno) : undefined;
}

/** Begins to watch a descriptor, started and referenced. It must be known to take the mechanism and have no other handle. */
export function openSource(
  libc: Libc,
  fd: number,
  mechanism: PollMechanism,
  interest: Interest,
  ready: ReadyListener,
): PollSource {
  return mechanism === "handle"
    ? watchByHandle(libc.koffi, fd, interest, ready)
    : openPollWaiter(libc).watch(fd, interest, ready);
}

/**
 * Waits once for a descriptor to be ready, through a duplicate: it may be watched elsewhere at the same time. An error
 * or a closed peer counts as ready; the call that follows tells which it is.
 * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_NOT_SUPPORTED` for a descriptor without events; a system error
 */
export async function whenReady(
  libc: Libc,
  fd: number,
  interest: Interest,
  options: {
    readonly call: Call;
    /** Ends the waiting as if the descriptor were ready. */
    readonly until?: AbortSignal;
    readonly waitingFor?: string;
    readonly mechanism?: PollMechanism | undefined;
  },
): Promise<void> {
  const { call, until, waitingFor } = options;
  call.check(waitingFor);
  if (until?.aborted) return;
  const own = duplicate(libc, fd);
  let source: PollSource | undefined;
  let forget = (): void => undefined;
  try {
    const best = pollMechanism(libc, own);
    const ready = new Promise<void>((resolve) => {
      source = openSource(libc, own, options.mechanism ?? best, interest, () => {
        source?.stop();
        // Promise jobs of the raw event would not run on every Node.
        setImmediate(resolve);
      });
      forget = onAbort(until, resolve);
    });
    await call.within(ready, waitingFor);
  } finally {
    forget();
    await source?.close();
    closeDescriptor(own);
  }
}
