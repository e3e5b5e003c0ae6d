import { isMainThread } from "node:worker_threads";
import type { Call } from "../../base/flow/call.js";
import { monotonicMs } from "../../base/flow/monotonic.js";
import { KeyedQueues } from "../../base/flow/queues.js";
import { type KoffiLoader, oncePer } from "../ffi/koffi.js";
import type { Libc, NativeArgument } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";

/**
 * Which record locks the system has: `ofd` belong to the open file (Linux), `posix` to the process and vanish when it
 * closes any descriptor of the file.
 */
export type RecordLockKind = "ofd" | "posix";

export type LockMode = "shared" | "exclusive";

export interface FileLock {
  /** Gives it back; may be called twice. Call it before the descriptor is closed. */
  release(): void;
  [Symbol.dispose](): void;
}

/** Options of {@link tryLockFile}. */
export interface TryLockOptions {
  /** Shared for readers, exclusive for writers (needs a descriptor open for writing). */
  readonly mode: LockMode;
  /** Kind of record lock; default: the best one that the system has. */
  readonly kind?: RecordLockKind;
  /** Take flock(2) as well, first; default: on Linux, where the two families do not see each other. */
  readonly flock?: boolean;
  readonly koffi?: KoffiLoader;
}

/** Options of {@link lockFile}. */
export interface LockOptions extends TryLockOptions {
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

/* struct flock: where its fields are and what its constants and commands are called (sys/fcntl.h of each system). */
const LINUX = { size: 32, type: 0, pid: 24, shared: 0, exclusive: 1, unlock: 2 };
const BSD = { size: 32, type: 20, pid: 16, shared: 1, exclusive: 3, unlock: 2 };
const LINUX_POSIX = { ...LINUX, getLock: 5, setLock: 6, waitLock: 7 };
const LINUX_OFD: FlockLayout = { ...LINUX, getLock: 36, setLock: 37, waitLock: 38 };
const FREEBSD: FlockLayout = { ...BSD, getLock: 11, setLock: 12, waitLock: 13 };
const OPENBSD: FlockLayout = { ...BSD, size: 24, getLock: 7, setLock: 8, waitLock: 9 };

type FlockLayout = Readonly<typeof LINUX_POSIX>;

const IS_LINUX = process.platform === "linux";
const KIND: RecordLockKind = IS_LINUX ? "ofd" : "posix";

const FCNTL = "int fcntl(int, int, ...)";
const FLOCK = "int flock(int, int)";
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

/** How long the locks are asked for often: most holders are done by then. */
const SOON_MS = 100;
/** Pauses meanwhile, and afterwards, at random, so that two who poll do not keep in step. */
const SOON_PAUSES_MS = [1, 2] as const;
const LATER_PAUSES_MS = [5, 20] as const;

function layoutOf(kind: RecordLockKind): FlockLayout {
  if (IS_LINUX) return kind === "ofd" ? LINUX_OFD : LINUX_POSIX;
  return process.platform === "openbsd" || process.platform === "netbsd" ? OPENBSD : FREEBSD;
}

/** Makes a request over the whole file: zeroes elsewhere mean from the start to the end. */
function request(layout: FlockLayout, type: number): Buffer {
  const block = Buffer.alloc(layout.size);
  block.writeInt16LE(type, layout.type);
  return block;
}

/** The prepared requests of a layout; the kernel only reads them. */
const requestsOf = oncePer((layout: FlockLayout) => ({
  shared: request(layout, layout.shared),
  exclusive: request(layout, layout.exclusive),
  unlock: request(layout, layout.unlock),
}));

function asked({ mode, kind = KIND, flock = IS_LINUX, koffi }: TryLockOptions) {
  const layout = layoutOf(kind);
  const operation = flock ? { shared: LOCK_SH, exclusive: LOCK_EX }[mode] : undefined;
  return { libc: openLibc(koffi), layout, operation, block: requestsOf(layout)[mode] };
}

/** Takes a lock; false when somebody else is in the way. */
function take(libc: Libc, declaration: string, ...args: NativeArgument[]): boolean {
  for (;;) {
    const { rc, errno } = libc.call(declaration, ...args);
    if (rc === 0) return true;
    // EWOULDBLOCK is EAGAIN's number on every system served.
    const name = libc.errnoName(errno);
    if (name === "EAGAIN" || name === "EACCES") return false;
    if (name !== "EINTR") throw libc.systemError(declaration === FLOCK ? "flock" : "fcntl", errno);
  }
}

function held(fd: number, { libc, layout, operation }: ReturnType<typeof asked>): FileLock {
  let isHeld = true;
  // What fails here (a closed descriptor) holds no lock any more.
  const release = (): void => {
    if (!isHeld) return;
    isHeld = false;
    libc.call(FCNTL, fd, layout.setLock, "void *", requestsOf(layout).unlock);
    if (operation !== undefined) libc.call(FLOCK, fd, LOCK_UN);
  };
  return { release, [Symbol.dispose]: release };
}

/**
 * Takes the locks on a whole file if nobody is in the way: flock(2) first, then the record lock, so that programs of
 * both families are excluded. The descriptor must stay open until the release.
 * @returns undefined when somebody else holds one
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error (`EBADF`, …) otherwise
 */
export function tryLockFile(fd: number, options: TryLockOptions): FileLock | undefined {
  const way = asked(options);
  const { libc, layout, operation, block } = way;
  if (operation !== undefined && !take(libc, FLOCK, fd, operation | LOCK_NB)) return undefined;
  let taken = false;
  try {
    taken = take(libc, FCNTL, fd, layout.setLock, "void *", block);
  } finally {
    if (!taken && operation !== undefined) libc.call(FLOCK, fd, LOCK_UN);
  }
  return taken ? held(fd, way) : undefined;
}

/**
 * Takes the locks on a whole file, trying again and again: a blocking lock would hold a thread of the pool and could not be
 * cancelled. The event loop stays free: pauses of 1 to 2 ms for 100 ms, then of 5 to 20 ms, or a helper waits in the kernel.
 * @throws PvbusError `ERR_TIMEOUT` (naming the holder's process where known), `ERR_ABORTED` while waiting, `ERR_UNAVAILABLE` without native calls
 */
export async function lockFile(fd: number, options: LockOptions): Promise<FileLock> {
  const { call } = options;
  call.check("a file lock");
  const since = monotonicMs();
  // Only locks of the open file stay when the process that took them ends.
  let helper = options.helper === true && IS_LINUX && (options.kind ?? KIND) === "ofd" && isMainThread;
  for (;;) {
    const lock = tryLockFile(fd, options);
    if (lock !== undefined) return lock;
    const isSoon = monotonicMs() - since < SOON_MS;
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

const TURNS = new KeyedQueues();

/**
 * Takes locks that are held for long, as {@link lockFile} does; of all in this process that wait for them one at a time tries, the
 * others queue behind it by arrival. An attempt without waiting leaves them their turn.
 */
export class LockTurns {
  readonly #place: string;

  /** @param place the same text for all who lock the file */
  constructor(place: string) {
    this.#place = place;
  }

  /** Takes the locks at once; undefined when somebody else holds one, or waits here. @throws as {@link tryLockFile} */
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

/** Returns the locks that a helper got; undefined when it got none, and then none are held. */
async function lockByHelper(fd: number, options: LockOptions): Promise<FileLock | undefined> {
  const { waitInHelper } = await import("./lock-helper.js");
  const { call, helperProgram: program } = options;
  const way = asked(options);
  const { layout, operation, block } = way;
  const got = await waitInHelper(fd, { flock: operation, command: layout.waitLock, block, call, program });
  const lock = held(fd, way);
  if (got) return lock;
  // One of the two may be there.
  lock.release();
  return undefined;
}

/**
 * Says who is in the way, where the system names the process of a record lock. Only those can be asked for: otherwise it is a
 * flock(2), or just gone.
 */
export function holderOf(fd: number, options: TryLockOptions): string {
  const { libc, layout } = asked(options);
  const block = request(layout, layout[options.mode]);
  const { rc } = libc.call(FCNTL, fd, layout.getLock, "void *", block);
  if (rc !== 0 || block.readInt16LE(layout.type) === layout.unlock) return "another program";
  const pid = block.readInt32LE(layout.pid);
  // An OFD lock belongs to an open file, not to a process: the kernel says -1.
  return pid > 0 ? `process ${pid}` : "a program that the system does not name";
}
