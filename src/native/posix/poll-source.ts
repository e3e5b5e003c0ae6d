import { constants } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { callAsync } from "../ffi/async-call.js";
import { closeDescriptor, O_CLOEXEC, ownDescriptors } from "../ffi/descriptor.js";
import { type Koffi, oncePer } from "../ffi/koffi.js";
import type { Libc } from "../ffi/libc.js";

export type Interest = "readable" | "writable";

/** Hears that a descriptor may be ready; `failed` is a positive errno when the system gave up on it. Never throws. */
export type ReadyListener = (failed: number | undefined) => void;

/** Reports when one descriptor is ready: an event handle of libuv, or the shared poll(2) of {@link PollWaiter}. */
export interface PollSource {
  /** Reports from now on, again and again while the descriptor is ready. */
  start(): void;
  stop(): void;
  /** Keeps the process alive while started; the state at the beginning. */
  ref(): void;
  unref(): void;
  /** Ends it for good; no other method is called afterwards. Resolves when the descriptor may be closed. */
  close(): Promise<void>;
}

/** Collected while active, a handle goes silent: the live ones stay referenced here. */
const live = new Set<PollSource>();

/**
 * Watches a descriptor by libuv's own event loop, at once. The descriptor must be known to be pollable and have no other
 * handle in this process: libuv aborts the process otherwise. For the main thread alone: a worker that ends, at whatever
 * moment, with an open one takes the process with it.
 * @throws Error in a worker thread
 */
export function watchByHandle(
  koffi: Koffi,
  fd: number,
  interest: Interest,
  ready: ReadyListener,
): PollSource {
  if (!isMainThread) throw new Error("a worker thread must not wait by an event handle");
  const wanted = { [interest]: true };
  // koffi's declaration leaves out that the callback gets a status first. One that throws would leave the exception pending
  // for an unrelated call: `ready` does not throw.
  const callback = (first: unknown): void =>
    ready(typeof first === "number" && first < 0 ? -first : undefined);
  const handle = koffi.node.poll(fd, wanted, callback);
  const source: PollSource = {
    start: () => handle.start(wanted, callback),
    stop: () => handle.stop(),
    ref: () => handle.ref(),
    unref: () => handle.unref(),
    close: () => {
      live.delete(source);
      handle.close();
      return Promise.resolve();
    },
  };
  live.add(source);
  return source;
}

/** Longest time that one poll(2) sleeps: it bounds how long an unreferenced wait delays the end of the process. */
const POLL_TIMEOUT_MS = 200;
/** struct pollfd: fd i32 at 0, events i16 at 4, revents i16 at 6 (poll.h of every system served). */
const POLLFD_SIZE = 8;
const POLLIN = 1;
const POLLOUT = 4;

class WakePipe {
  /** The end to poll for input. */
  readonly fd: number;
  readonly #writeFd: number;
  readonly #libc: Libc;
  readonly #bytes = Buffer.alloc(64);

  /** @throws a system error when no pipe can be made */
  constructor(libc: Libc) {
    this.#libc = libc;
    if (O_CLOEXEC === undefined) throw libc.systemError("pipe2", libc.errnoNumber("ENOSYS"));
    const ends = Buffer.alloc(8);
    libc.must("int pipe2(void *, int)", ends, constants.O_NONBLOCK | O_CLOEXEC);
    const [fd, writeFd] = ownDescriptors(libc, [ends.readInt32LE(0), ends.readInt32LE(4)]);
    this.fd = fd as number;
    this.#writeFd = writeFd as number;
  }

  /** Makes the pipe readable; a full pipe is readable already. */
  wake(): void {
    this.#libc.function("intptr_t write(int, const void *, size_t)")(this.#writeFd, this.#bytes, 1);
  }

  drain(): void {
    const read = this.#libc.function("intptr_t read(int, void *, size_t)");
    while (read(this.fd, this.#bytes, this.#bytes.length) === this.#bytes.length);
  }

  close(): void {
    closeDescriptor(this.fd);
    closeDescriptor(this.#writeFd);
  }
}

interface Entry {
  readonly fd: number;
  readonly events: number;
  readonly ready: ReadyListener;
  started: boolean;
  referenced: boolean;
}

/**
 * Watches descriptors by one bounded poll(2) on a thread of libuv's pool, for all of them together. For descriptors
 * that epoll or kqueue refuse, and for runtimes without libuv's handles.
 *
 * Three states: a call in flight (a byte in the pipe ends it), a timer before the next call, idle. The timer exists
 * only while nothing is referenced, so that the process can end in between.
 */
export class PollWaiter {
  readonly #libc: Libc;
  readonly #entries = new Set<Entry>();
  readonly #onExit = (): void => this.#pipe?.wake();
  #pipe: WakePipe | undefined;
  #call: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @internal Use {@link openPollWaiter}: one waiter serves the process. */
  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** Watches a descriptor, started and referenced. @throws a system error when no pipe can be made */
  watch(fd: number, interest: Interest, ready: ReadyListener): PollSource {
    if (this.#pipe === undefined) {
      this.#pipe = new WakePipe(this.#libc);
      // process.exit() waits for the call in flight: end it.
      process.on("exit", this.#onExit);
    }
    const events = interest === "readable" ? POLLIN : POLLOUT;
    const entry: Entry = { fd, events, ready, started: true, referenced: true };
    this.#entries.add(entry);
    this.#changed();
    const set = (change: Partial<Entry>): void => {
      Object.assign(entry, change);
      this.#changed();
    };
    return {
      start: () => set({ started: true }),
      stop: () => set({ started: false }),
      ref: () => set({ referenced: true }),
      unref: () => set({ referenced: false }),
      close: () => {
        entry.started = false;
        this.#entries.delete(entry);
        const inFlight = this.#call;
        this.#changed();
        return inFlight ?? Promise.resolve();
      },
    };
  }

  /** Brings the state in line with the entries. */
  #changed(): void {
    if (this.#call !== undefined) {
      this.#pipe?.wake();
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#entries.size === 0) this.#free();
    else this.#arm();
  }

  #arm(): void {
    const entries = [...this.#entries].filter((entry) => entry.started);
    if (entries.length === 0) return;
    if (entries.some((entry) => entry.referenced)) {
      this.#poll(entries);
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#poll(entries);
    }, 0).unref();
  }

  #poll(entries: readonly Entry[]): void {
    const pipe = this.#pipe as WakePipe;
    const block = Buffer.alloc((entries.length + 1) * POLLFD_SIZE);
    [{ fd: pipe.fd, events: POLLIN }, ...entries].forEach(({ fd, events }, index) => {
      block.writeInt32LE(fd, index * POLLFD_SIZE);
      block.writeInt16LE(events, index * POLLFD_SIZE + 4);
    });
    const poll = this.#libc.function("int poll(void *, unsigned long, int)");
    this.#call = callAsync(this.#libc, poll, block, entries.length + 1, POLL_TIMEOUT_MS).then(
      ({ rc, errno }) => {
        pipe.drain();
        const failed = rc < 0 && this.#libc.errnoName(errno) !== "EINTR" ? errno : undefined;
        entries.forEach((entry, index) => {
          const reported = rc > 0 && block.readInt16LE((index + 1) * POLLFD_SIZE + 6) !== 0;
          // An earlier listener may have stopped or closed this one.
          if (entry.started && (reported || failed !== undefined)) entry.ready(failed);
        });
        this.#done();
      },
      () => {
        for (const entry of entries) if (entry.started) entry.ready(this.#libc.errnoNumber("EAGAIN"));
        this.#done();
      },
    );
  }

  #done(): void {
    this.#call = undefined;
    this.#changed();
  }

  #free(): void {
    process.off("exit", this.#onExit);
    this.#pipe?.close();
    this.#pipe = undefined;
  }
}

export const openPollWaiter: (libc: Libc) => PollWaiter = oncePer((libc) => new PollWaiter(libc));
