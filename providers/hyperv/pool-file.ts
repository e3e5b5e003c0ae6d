import nodeFs from "node:fs";
import { dirname } from "node:path";
import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { HeldName } from "../../src/base/host/tree.js";
import { isSystemError } from "../../src/base/system-error.js";
import type { LockMode } from "../../src/native/posix/file-lock.js";
import { joinQueue } from "../../src/native/posix/lock-queue.js";
import type { PoolBytes } from "./pool-edit.js";
import { checkPoolFile, isMissing, linkError, missing, notAFile, poolError } from "./pool-errors.js";

/** What this module needs of the file system; a test hands in one with faults. */
export type PoolFs = Pick<
  typeof nodeFs,
  | "openSync"
  | "closeSync"
  | "lstatSync"
  | "fstatSync"
  | "readSync"
  | "writeSync"
  | "ftruncateSync"
  | "fchmodSync"
  | "fsync"
>;

/** Takes the pool locks on an open file; see src/native/posix/file-lock.ts for the families. */
export type Locker = (fd: number, options: { mode: LockMode; call: Call }) => Promise<{ release(): void }>;

/** What a pool file needs to know of its surroundings. */
export interface PoolFileOptions {
  /** Where it is, for messages and to tell pool files apart; where nothing holds its name, also for the system. */
  readonly path: string;
  /** Holds its name in the directory that it is looked up in, anew for each look; nothing without that directory. */
  readonly hold?: (() => HeldName | undefined) | undefined;
  /** Name of the pool for messages. */
  readonly pool: string;
  /** Owners that are trusted: root, this user, the owner of the sysroot. */
  readonly trustedOwners: ReadonlySet<number>;
  /** Take it from group and others. */
  readonly makePrivate: boolean;
  /** Create it when it is missing and is to be written. */
  readonly create: boolean;
  /** Takes the locks. */
  readonly lock: Locker;
  /** The file system. */
  readonly fs?: PoolFs;
}

/** What the file system tells of a file's state: equal stamps of a settled file mean equal content. */
export interface Stamp {
  /** Device and inode. */
  readonly id: string;
  /** Length in bytes. */
  readonly size: number;
  /** Modification time in ns. */
  readonly mtimeNs: bigint;
  /** Change time in ns. */
  readonly ctimeNs: bigint;
}

/** Reports whether two stamps are the same. */
export function sameStamp(a: Stamp, b: Stamp): boolean {
  return a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.size === b.size && a.id === b.id;
}

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = nodeFs.constants;
// Both are absent on Windows, where pools are not files. O_NONBLOCK: a FIFO in a pool's place must not hang the open.
const NO_NOFOLLOW = nodeFs.constants.O_NOFOLLOW === undefined;
const SAFE_FLAGS = (nodeFs.constants.O_NOFOLLOW ?? 0) | (nodeFs.constants.O_NONBLOCK ?? 0);

interface OpenFile {
  readonly fd: number;
  readonly id: string;
  readonly writable: boolean;
}

/**
 * The descriptor of a pool file. Record locks of the POSIX kind need one for all users in the process; whoever uses it does so
 * by settings of its own.
 */
export class PoolDescriptor {
  /** Undefined until it is used. */
  open: OpenFile | undefined;
  /** The locked action at hand, whosever it is; never rejects. */
  running: Promise<unknown> | undefined;
  /** Number of pool files that use it. */
  users = 0;
  /** Called when the last user has closed it. */
  readonly unused: () => void;

  constructor(unused = (): void => undefined) {
    this.unused = unused;
  }
}

/**
 * One pool file: opens it safely, tells its state, reads, locks, and hands out its bytes for editing. Keeps one
 * descriptor open, follows a replaced file, and serialises all users of its locks inside the process.
 */
export class PoolFile {
  readonly #options: PoolFileOptions;
  readonly #fs: PoolFs;
  readonly #descriptor: PoolDescriptor;
  readonly #place: ReturnType<typeof joinQueue>;
  /** What was opened, perhaps by another user, and passed the checks of this one. */
  #checked: OpenFile | undefined;
  /** This user's locked action at hand; never rejects. */
  #running: Promise<unknown> | undefined;
  #closed = false;
  #directorySynced = false;

  /** @param descriptor one that others use too; default: one of its own */
  constructor(options: PoolFileOptions, descriptor = new PoolDescriptor()) {
    this.#options = options;
    this.#fs = options.fs ?? nodeFs;
    this.#descriptor = descriptor;
    descriptor.users++;
    this.#place = joinQueue(options.path);
  }

  /** Where it is. */
  get path(): string {
    return this.#options.path;
  }

  /**
   * Returns the file's state by its name, opening it when it is not open or another file took its place (but never
   * closing a descriptor that a locked action uses: compare with {@link PoolFile.holds}).
   * @throws PvbusError `ERR_UNAVAILABLE` when it is missing, `ERR_PERMISSION`, `ERR_CORRUPT` when it is no file
   */
  stamp(): Stamp {
    const stats = this.#attempt("stat", () =>
      this.#named((name) => this.#fs.lstatSync(name, { bigint: true })),
    );
    const id = `${stats.dev}:${stats.ino}`;
    const { open, running } = this.#descriptor;
    if (open?.id !== id && running === undefined) this.#reopen(open?.writable ?? false);
    return { id, size: Number(stats.size), mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs };
  }

  /** Reports whether the open descriptor is the file of that stamp. */
  holds(stamp: Stamp): boolean {
    return this.#descriptor.open?.id === stamp.id;
  }

  /** Reads up to `buffer.length` bytes from the offset; returns how many there were. */
  read(buffer: Buffer, offset: number): number {
    const { fd } = this.#ensure(false);
    let done = 0;
    this.#attempt("read", () => {
      while (done < buffer.length) {
        const count = this.#fs.readSync(fd, buffer, done, buffer.length - done, offset + done);
        if (count === 0) break;
        done += count;
      }
    });
    return done;
  }

  /**
   * Runs an action while the pool locks are held, one action at a time in this process. The name is looked up
   * again under the lock, so that the locked file is the one that everybody sees.
   * @throws PvbusError `ERR_TIMEOUT` or `ERR_ABORTED` while waiting, `ERR_UNAVAILABLE` without native calls
   */
  async locked<T>(mode: LockMode, call: Call, action: (stamp: Stamp) => T | Promise<T>): Promise<T> {
    return this.#place.queue.run(call, `other work on pool ${this.#options.pool}`, async () => {
      this.#checkOpen();
      const work = this.#lockedOnce(mode, call, action);
      this.#running = work.then(
        () => undefined,
        () => undefined,
      );
      this.#descriptor.running = this.#running;
      try {
        return await work;
      } finally {
        this.#descriptor.running = undefined;
        this.#running = undefined;
      }
    });
  }

  async #lockedOnce<T>(mode: LockMode, call: Call, action: (stamp: Stamp) => T | Promise<T>): Promise<T> {
    for (;;) {
      const { fd, id } = this.#ensure(mode === "exclusive");
      const lock = await this.#lock(fd, mode, call);
      try {
        const stamp = this.#stampUnlessGone(mode);
        if (stamp?.id === id) return await action(stamp);
      } finally {
        lock.release();
      }
      this.#closeDescriptor();
    }
  }

  /** A file that was removed while it was open is made anew where it may be. */
  #stampUnlessGone(mode: LockMode): Stamp | undefined {
    try {
      return this.stamp();
    } catch (error) {
      if (mode === "exclusive" && this.#options.create && isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Returns the bytes for editing; only inside an exclusive {@link PoolFile.locked} action. */
  bytes(): PoolBytes {
    const { fd } = this.#ensure(false);
    const fs = this.#fs;
    return {
      get size() {
        return Number(fs.fstatSync(fd).size);
      },
      read: (into, offset) => {
        const count = this.read(into, offset);
        if (count < into.length)
          throw pvbusError("ERR_CONFLICT", `${this.path} became shorter under our lock; try again`);
      },
      write: (bytes, offset) => {
        this.#attempt("write", () => {
          for (let done = 0; done < bytes.length; ) {
            done += fs.writeSync(fd, bytes, done, bytes.length - done, offset + done);
          }
        });
      },
      resize: (size) => this.#attempt("resize", () => fs.ftruncateSync(fd, size)),
    };
  }

  /** Resolves when the data is on the disk, and the file's name in its directory. */
  async sync(): Promise<void> {
    await this.#syncDescriptor(this.#ensure(false).fd);
    // Windows opens no directories; pools are files there in captured trees alone.
    if (this.#directorySynced || process.platform === "win32") return;
    const directory = this.#attempt("open the directory of", () =>
      this.#named((name) => this.#fs.openSync(dirname(name), O_RDONLY)),
    );
    try {
      await this.#syncDescriptor(directory);
      this.#directorySynced = true;
    } finally {
      this.#fs.closeSync(directory);
    }
  }

  async #syncDescriptor(fd: number): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#fs.fsync(fd, (error) => (error === null ? resolve() : reject(error)));
      });
    } catch (error) {
      throw this.#map(error, "sync");
    }
  }

  /**
   * Ends its use after this user's action at hand; what waits for its turn is refused. The last user closes the descriptor.
   * May be called twice.
   */
  async close(): Promise<void> {
    const wasClosed = this.#closed;
    this.#closed = true;
    await this.#running;
    if (wasClosed) return;
    if (--this.#descriptor.users === 0) {
      this.#closeDescriptor();
      this.#descriptor.unused();
    }
    this.#place.leave();
  }

  #checkOpen(): void {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
  }

  #ensure(writable: boolean): OpenFile {
    if (this.#running === undefined) this.#checkOpen();
    const { open } = this.#descriptor;
    if (open === undefined || (writable && !open.writable)) return this.#reopen(writable);
    if (open !== this.#checked) {
      this.#check(open.fd, open.writable);
      this.#checked = open;
    }
    return open;
  }

  #closeDescriptor(): void {
    const { open } = this.#descriptor;
    if (open !== undefined) this.#fs.closeSync(open.fd);
    this.#descriptor.open = undefined;
  }

  #reopen(writable: boolean): OpenFile {
    this.#checkOpen();
    this.#closeDescriptor();
    const fd = this.#openDescriptor(writable);
    try {
      const open = { fd, id: this.#check(fd, writable), writable };
      this.#descriptor.open = open;
      this.#checked = open;
      return open;
    } catch (error) {
      this.#fs.closeSync(fd);
      throw error;
    }
  }

  /** Checks an open file by this user's settings. @returns its id */
  #check(fd: number, writable: boolean): string {
    const stats = this.#fs.fstatSync(fd, { bigint: true });
    checkPoolFile(stats, this.#options, writable);
    // A second name may be somebody else's file.
    if (this.#options.makePrivate && stats.nlink === 1n && (Number(stats.mode) & 0o077) !== 0) {
      this.#attempt("make private", () => this.#fs.fchmodSync(fd, 0o600));
    }
    return `${stats.dev}:${stats.ino}`;
  }

  #openDescriptor(writable: boolean): number {
    const flags = (writable ? O_RDWR : O_RDONLY) | SAFE_FLAGS;
    const mode = this.#options.makePrivate ? 0o600 : 0o644;
    return this.#attempt(writable ? "open for writing" : "open", () =>
      this.#named((name) => {
        // Before it is opened: opening alone sets some devices going.
        const there = this.#fs.lstatSync(name, { bigint: true, throwIfNoEntry: false });
        if (there?.isSymbolicLink() && NO_NOFOLLOW) throw linkError(this.path);
        if (there !== undefined && !there.isFile() && !there.isSymbolicLink()) throw notAFile(this.#options);
        try {
          return this.#fs.openSync(name, flags);
        } catch (error) {
          if (!(writable && this.#options.create && isSystemError(error) && error.code === "ENOENT"))
            throw error;
          try {
            return this.#fs.openSync(name, flags | O_CREAT | O_EXCL, mode);
          } catch (second) {
            if (isSystemError(second) && second.code === "EEXIST") return this.#fs.openSync(name, flags);
            throw second;
          }
        }
      }),
    );
  }

  /** Runs an action on the file's name, as the system is to look it up. */
  #named<T>(action: (name: string) => T): T {
    const { hold, path } = this.#options;
    if (hold === undefined) return action(path);
    const held = hold();
    if (held === undefined) throw missing(path);
    try {
      return action(held.path);
    } finally {
      held[Symbol.dispose]();
    }
  }

  async #lock(fd: number, mode: LockMode, call: Call): Promise<{ release(): void }> {
    try {
      return await this.#options.lock(fd, { mode, call });
    } catch (error) {
      throw this.#map(error, "lock");
    }
  }

  #attempt<T>(doing: string, action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw this.#map(error, doing);
    }
  }

  #map(error: unknown, doing: string): unknown {
    return poolError(error, doing, this.#options);
  }
}
