import { isMainThread } from "node:worker_threads";
import type { Call } from "../../base/flow/call.js";
import { KeyedQueues } from "../../base/flow/queues.js";
import { type Koffi, type KoffiLoader, loadKoffi } from "../ffi/koffi.js";
import { openLibc } from "../ffi/open-libc.js";
import {
  type FlockLayout,
  layoutOf,
  type RecordLockKind,
  recordLockKind,
  request,
  requestsOf,
} from "./flock-layout.js";

export { type RecordLockKind, recordLockKind } from "./flock-layout.js";

/** How a lock is shared. */
export type LockMode = "shared" | "exclusive";

/** A held lock. */
export interface FileLock {
  /** Gives it back; may be called twice. Call it before the descriptor is closed. */
  release(): void;
  /** The same, for `using`. */
  [Symbol.dispose](): void;
}

/** Options of {@link tryLockFile}. */
export interface TryLockOptions {
  /** Shared for readers, exclusive for writers (needs a descriptor open for writing). */
  readonly mode: LockMode;
  /** Operating system; default: this one. */
  readonly platform?: NodeJS.Platform;
  /** Kind of record lock; default: the best one that the system has. */
  readonly kind?: RecordLockKind;
  /** Take flock(2) as well, first; default: on Linux, where the two families do not see each other. */
  readonly flock?: boolean;
  /** Stands in for the native library. */
  readonly koffi?: KoffiLoader;
}

/** Options of {@link lockFile}. */
export interface LockOptions extends TryLockOptions {
  /** Ends the waiting. */
  readonly call: Call;
  /**
   * Have another process wait in the kernel when the locks are not free soon (Linux, record locks of the open file): beside
   * lockers that hardly pause it gets its turn where a poller would not. Default false: a process is dear. In a worker thread
   * nobody would reap it once the thread is stopped: there this polls.
   */
  readonly helper?: boolean;
  /** Program that the helper is run with. @internal */
  readonly helperProgram?: string;
}

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

/** How long the locks are asked for often: most holders are done by then. */
const SOON_MS = 100;
/** Pauses meanwhile, and afterwards, at random, so that two who poll do not keep in step. */
const SOON_PAUSES_MS = [1, 2] as const;
const LATER_PAUSES_MS = [5, 20] as const;

/** The calls, errno read in the same breath; `try*` give false when somebody else is in the way. */
class LockCalls {
  readonly #libc;
  readonly #fcntl;
  readonly #flock;
  readonly #again: number;
  readonly #access: number;
  readonly #interrupted: number;

  constructor(koffi: Koffi) {
    this.#libc = openLibc(() => koffi);
    this.#fcntl = this.#libc.function("int fcntl(int, int, ...)");
    this.#flock = this.#libc.function("int flock(int, int)");
    // EWOULDBLOCK is EAGAIN's number on every system served.
    this.#again = this.#libc.errnoNumber("EAGAIN");
    this.#access = this.#libc.errnoNumber("EACCES");
    this.#interrupted = this.#libc.errnoNumber("EINTR");
  }

  tryRecord(fd: number, command: number, block: Buffer): boolean {
    while (this.#fcntl(fd, command, "void *", block) !== 0) {
      if (this.#isTaken("fcntl", this.#libc.errno())) return false;
    }
    return true;
  }

  tryFlock(fd: number, operation: number): boolean {
    while (this.#flock(fd, operation) !== 0) {
      if (this.#isTaken("flock", this.#libc.errno())) return false;
    }
    return true;
  }

  /** Says who holds a record lock that is in the way of `block`; undefined when nobody is. */
  holder(fd: number, layout: FlockLayout, type: number): string | undefined {
    const block = request(layout, type);
    if (this.#fcntl(fd, layout.getLock, "void *", block) !== 0) return undefined;
    if (block.readInt16LE(layout.type) === layout.unlock) return undefined;
    const pid = block.readInt32LE(layout.pid);
    // An OFD lock belongs to an open file, not to a process: the kernel says -1.
    return pid > 0 ? `process ${pid}` : "a program that the system does not name";
  }

  /** Returns locks back; what fails here (a closed descriptor) holds no lock any more. */
  unlock(fd: number, command: number, block: Buffer): void {
    this.#fcntl(fd, command, "void *", block);
  }

  unflock(fd: number): void {
    this.#flock(fd, LOCK_UN);
  }

  /** Reports whether the lock is somebody else's; false means that a signal came and the call is to be repeated. */
  #isTaken(syscall: string, errno: number): boolean {
    if (errno === this.#again || errno === this.#access) return true;
    if (errno === this.#interrupted) return false;
    throw this.#libc.systemError(syscall, errno);
  }
}

const callsOf = new WeakMap<Koffi, LockCalls>();

function lockCalls(loader: KoffiLoader): LockCalls {
  const koffi = loader();
  let calls = callsOf.get(koffi);
  if (calls === undefined) {
    calls = new LockCalls(koffi);
    callsOf.set(koffi, calls);
  }
  return calls;
}

class HeldLock implements FileLock {
  readonly #calls: LockCalls;
  readonly #fd: number;
  readonly #layout: FlockLayout;
  readonly #withFlock: boolean;
  #held = true;

  constructor(calls: LockCalls, fd: number, layout: FlockLayout, withFlock: boolean) {
    this.#calls = calls;
    this.#fd = fd;
    this.#layout = layout;
    this.#withFlock = withFlock;
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#calls.unlock(this.#fd, this.#layout.setLock, requestsOf(this.#layout).unlock);
    if (this.#withFlock) this.#calls.unflock(this.#fd);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/**
 * Takes the locks on a whole file if nobody is in the way: flock(2) first, then the record lock, so that programs of
 * both families are excluded. The descriptor must stay open until the release.
 * @returns undefined when somebody else holds one
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error (`EBADF`, …) otherwise
 */
export function tryLockFile(fd: number, options: TryLockOptions): FileLock | undefined {
  const platform = options.platform ?? process.platform;
  const layout = layoutOf(platform, options.kind ?? recordLockKind(platform));
  const withFlock = options.flock ?? platform === "linux";
  const calls = lockCalls(options.koffi ?? loadKoffi);
  const exclusive = options.mode === "exclusive";
  if (withFlock && !calls.tryFlock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB)) return undefined;
  let taken = false;
  try {
    const requests = requestsOf(layout);
    taken = calls.tryRecord(fd, layout.setLock, exclusive ? requests.exclusive : requests.shared);
  } finally {
    if (!taken && withFlock) calls.unflock(fd);
  }
  return taken ? new HeldLock(calls, fd, layout, withFlock) : undefined;
}

/**
 * Takes the locks on a whole file, trying again and again: a blocking lock would hold a thread of the pool and could not be
 * cancelled. The event loop stays free: pauses of 1 to 2 ms for 100 ms, then of 5 to 20 ms, or a helper waits in the kernel.
 * @throws PvbusError `ERR_TIMEOUT` (naming the holder's process where known), `ERR_ABORTED` while waiting, `ERR_UNAVAILABLE` without native calls
 */
export async function lockFile(fd: number, options: LockOptions): Promise<FileLock> {
  const { call } = options;
  call.check("a file lock");
  const since = performance.now();
  let helper = options.helper === true && canHelp(options);
  for (;;) {
    const lock = tryLockFile(fd, options);
    if (lock !== undefined) return lock;
    const isSoon = performance.now() - since < SOON_MS;
    if (helper && !isSoon) {
      const got = await lockByHelper(fd, options);
      if (got !== undefined) return got;
      // Where it ended without the locks there may be no helper to be had.
      helper = false;
    }
    const [shortest, longest] = isSoon ? SOON_PAUSES_MS : LATER_PAUSES_MS;
    const pause = shortest + Math.random() * (longest - shortest);
    // Who is in the way is asked once, when it is to be said.
    await call.sleep(pause).catch(() => call.check(`a file lock held by ${holderOf(fd, options)}`));
  }
}

/** Who waits for a file's locks in this process, by what names the file: one at a time tries, by arrival. */
const TURNS = new KeyedQueues();

/**
 * Takes locks that are held for long, as {@link lockFile} does; of all in this process that wait for them one at a time tries, the
 * others queue behind it by arrival. An attempt without waiting leaves them their turn.
 */
export class LockTurns {
  readonly #place: string;

  /** @param place names the file, the same for all who lock it */
  constructor(place: string) {
    this.#place = place;
  }

  /**
   * Takes the locks at once.
   * @returns undefined when somebody else holds one, or waits here
   * @throws as {@link tryLockFile}
   */
  try(fd: number, options: TryLockOptions): FileLock | undefined {
    return TURNS.has(this.#place) ? undefined : tryLockFile(fd, options);
  }

  /** Waits for them. @throws as {@link lockFile} */
  wait(fd: number, options: LockOptions): Promise<FileLock> {
    return TURNS.run(this.#place, options.call, "others of this process that wait for a file lock", () =>
      lockFile(fd, options),
    );
  }
}

/** Only locks of the open file stay when the process that took them ends. */
function canHelp({ platform = process.platform, kind = recordLockKind(platform) }: LockOptions): boolean {
  return platform === "linux" && kind === "ofd" && isMainThread;
}

/** Returns the locks that a helper got; undefined when it got none, and then none are held. */
async function lockByHelper(fd: number, options: LockOptions): Promise<FileLock | undefined> {
  const { waitInHelper } = await import("./lock-helper.js");
  const layout = layoutOf("linux", "ofd");
  const withFlock = options.flock ?? true;
  const exclusive = options.mode === "exclusive";
  const requests = requestsOf(layout);
  const got = await waitInHelper(fd, {
    flock: withFlock ? (exclusive ? LOCK_EX : LOCK_SH) : undefined,
    command: layout.waitLock,
    block: exclusive ? requests.exclusive : requests.shared,
    call: options.call,
    program: options.helperProgram,
  });
  const lock = new HeldLock(lockCalls(options.koffi ?? loadKoffi), fd, layout, withFlock);
  if (got) return lock;
  // One of the two may be there.
  lock.release();
  return undefined;
}

/** Says who is in the way. Only record locks can be asked for: otherwise it is a flock(2), or just gone. */
export function holderOf(fd: number, options: TryLockOptions): string {
  const platform = options.platform ?? process.platform;
  const layout = layoutOf(platform, options.kind ?? recordLockKind(platform));
  const type = options.mode === "exclusive" ? layout.exclusive : layout.shared;
  return lockCalls(options.koffi ?? loadKoffi).holder(fd, layout, type) ?? "another program";
}
