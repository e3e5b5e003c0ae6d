import type { Call } from "../bus/call.js";
import { type Koffi, type KoffiLoader, loadKoffi } from "./koffi.js";

/** How a lock is shared. */
export type LockMode = "shared" | "exclusive";

/**
 * Which record locks the system has: `ofd` belong to the open file (Linux), `posix` to the process and vanish when it
 * closes any descriptor of the file.
 */
export type RecordLockKind = "ofd" | "posix";

/** A held lock. */
export interface FileLock {
  /** Gives it back; may be called twice. */
  release(): void;
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
}

/** struct flock: where its fields are and what its constants are called (sys/fcntl.h of each system). */
interface FlockLayout {
  readonly size: number;
  readonly type: number;
  readonly whence: number;
  readonly pid: number;
  readonly shared: number;
  readonly exclusive: number;
  readonly unlock: number;
  readonly getLock: number;
  readonly setLock: number;
}

const LINUX_POSIX: FlockLayout = {
  size: 32,
  type: 0,
  whence: 2,
  pid: 24,
  shared: 0,
  exclusive: 1,
  unlock: 2,
  getLock: 5,
  setLock: 6,
};
const LINUX_OFD: FlockLayout = { ...LINUX_POSIX, getLock: 36, setLock: 37 };
const FREEBSD: FlockLayout = {
  size: 32,
  type: 20,
  whence: 22,
  pid: 16,
  shared: 1,
  exclusive: 3,
  unlock: 2,
  getLock: 11,
  setLock: 12,
};
const OPENBSD: FlockLayout = { ...FREEBSD, size: 24, getLock: 7, setLock: 8 };

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;

const FIRST_WAIT_MS = 0.5;
const WAIT_GROWTH = 1.6;
const LONGEST_WAIT_MS = 20;

/** Gives the kind of record lock that a system has. */
export function recordLockKind(platform: NodeJS.Platform): RecordLockKind {
  return platform === "linux" ? "ofd" : "posix";
}

function layoutOf(platform: NodeJS.Platform, kind: RecordLockKind): FlockLayout {
  if (platform === "linux") return kind === "ofd" ? LINUX_OFD : LINUX_POSIX;
  return platform === "openbsd" || platform === "netbsd" ? OPENBSD : FREEBSD;
}

interface LockCalls {
  fcntl(fd: number, command: number, flock: Buffer): number;
  flock(fd: number, operation: number): number;
  errno(): string;
  fail(syscall: string): never;
}

let calls: { readonly koffi: Koffi; readonly calls: LockCalls } | undefined;

function lockCalls(loader: KoffiLoader): LockCalls {
  const koffi = loader();
  if (calls?.koffi === koffi) return calls.calls;
  const libc = koffi.load(null);
  const fcntl = libc.func("int fcntl(int, int, ...)");
  const flock = libc.func("int flock(int, int)");
  const names = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));
  // EAGAIN and EWOULDBLOCK are one number; the name that callers compare with must win.
  names.set(koffi.os.errno["EAGAIN"] as number, "EAGAIN");
  const errno = (): string => names.get(koffi.errno()) ?? String(koffi.errno());
  const made: LockCalls = {
    fcntl: (fd, command, block) => fcntl(fd, command, "void *", block),
    flock: (fd, operation) => flock(fd, operation),
    errno,
    fail: (syscall) => {
      const number = koffi.errno();
      const code = names.get(number) ?? String(number);
      throw Object.assign(new Error(`${code}: ${syscall}`), { code, errno: -number, syscall });
    },
  };
  calls = { koffi, calls: made };
  return made;
}

/** A whole-file request: zeroes elsewhere mean from the start to the end. */
function request(layout: FlockLayout, type: number): Buffer {
  const block = Buffer.alloc(layout.size);
  block.writeInt16LE(type, layout.type);
  return block;
}

/**
 * Takes the locks on a whole file if nobody is in the way: flock(2) first, then the record lock, so that programs of
 * both families are excluded.
 * @returns undefined when somebody else holds one
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error (`EBADF`, …) otherwise
 */
export function tryLockFile(fd: number, options: TryLockOptions): FileLock | undefined {
  const platform = options.platform ?? process.platform;
  const kind = options.kind ?? recordLockKind(platform);
  const withFlock = options.flock ?? platform === "linux";
  const layout = layoutOf(platform, kind);
  const native = lockCalls(options.koffi ?? loadKoffi);
  const exclusive = options.mode === "exclusive";

  const attempt = (syscall: string, action: () => number): boolean => {
    for (;;) {
      if (action() === 0) return true;
      const errno = native.errno();
      if (errno === "EINTR") continue;
      if (errno === "EAGAIN" || errno === "EACCES" || errno === "EWOULDBLOCK") return false;
      native.fail(syscall);
    }
  };
  if (withFlock && !attempt("flock", () => native.flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB)))
    return undefined;
  const unflock = (): void => {
    if (withFlock) native.flock(fd, LOCK_UN);
  };
  let taken = false;
  try {
    const block = request(layout, exclusive ? layout.exclusive : layout.shared);
    taken = attempt("fcntl", () => native.fcntl(fd, layout.setLock, block));
  } finally {
    if (!taken) unflock();
  }
  if (!taken) return undefined;

  let held = true;
  return {
    release: () => {
      if (!held) return;
      held = false;
      native.fcntl(fd, layout.setLock, request(layout, layout.unlock));
      unflock();
    },
  };
}

/**
 * Takes the locks on a whole file, trying again with growing pauses: a blocking lock would hold a thread of the pool
 * and could not be cancelled.
 * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED` while waiting, `ERR_UNAVAILABLE` without native calls
 */
export async function lockFile(fd: number, options: LockOptions): Promise<FileLock> {
  let pause = FIRST_WAIT_MS;
  for (;;) {
    options.call.check("the lock of another program");
    const lock = tryLockFile(fd, options);
    if (lock !== undefined) return lock;
    await options.call.sleep(pause, "the lock of another program");
    pause = Math.min(pause * WAIT_GROWTH, LONGEST_WAIT_MS);
  }
}
