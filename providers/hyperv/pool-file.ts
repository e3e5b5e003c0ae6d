import nodeFs from "node:fs";
import type { Call } from "../../src/bus/call.js";
import { pvbusError } from "../../src/bus/errors.js";
import { isSystemError } from "../../src/bus/system-error.js";
import type { LockMode } from "../../src/native/file-lock.js";
import type { PoolBytes } from "./pool-edit.js";
import { checkPoolFile, isMissing, poolError } from "./pool-errors.js";

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
  | "futimesSync"
  | "fsync"
>;

/** Takes the pool locks on an open file; see src/native/file-lock.ts for the families. */
export type Locker = (fd: number, options: { mode: LockMode; call: Call }) => Promise<{ release(): void }>;

/** What a pool file needs to know of its surroundings. */
export interface PoolFileOptions {
  /** Where it is. */
  readonly path: string;
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

/** What the file tells of its state: equal stamps of a settled file mean equal content. */
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

/** Tells whether two stamps are the same. */
export function sameStamp(a: Stamp, b: Stamp): boolean {
  return a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs && a.size === b.size && a.id === b.id;
}

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL } = nodeFs.constants;
// Both are absent on Windows, where pools are not files. O_NONBLOCK: a FIFO in a pool's place must not hang the open.
const SAFE_FLAGS = (nodeFs.constants.O_NOFOLLOW ?? 0) | (nodeFs.constants.O_NONBLOCK ?? 0);

/**
 * One pool file: opens it safely, tells its state, reads, locks, and hands out its bytes for editing. Keeps one
 * descriptor open, follows a replaced file, and serialises all users of its locks inside the process.
 */
export class PoolFile {
  readonly #options: PoolFileOptions;
  readonly #fs: PoolFs;
  #open: { readonly fd: number; readonly id: string; readonly writable: boolean } | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  #running = false;
  #closed = false;

  constructor(options: PoolFileOptions) {
    this.#options = options;
    this.#fs = options.fs ?? nodeFs;
  }

  /** Where it is. */
  get path(): string {
    return this.#options.path;
  }

  /**
   * Gives the file's state by its name, opening it when it is not open or another file took its place (but never
   * closing a descriptor that a locked action uses: compare with {@link PoolFile.holds}).
   * @throws PvbusError `ERR_UNAVAILABLE` when it is missing, `ERR_PERMISSION`, `ERR_CORRUPT` when it is no file
   */
  stamp(): Stamp {
    const stats = this.#attempt("stat", () => this.#fs.lstatSync(this.path, { bigint: true }));
    const id = `${stats.dev}:${stats.ino}`;
    if (this.#open?.id !== id && !this.#running) this.#reopen(this.#open?.writable ?? false);
    return { id, size: Number(stats.size), mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs };
  }

  /** Tells whether the open descriptor is the file of that stamp. */
  holds(stamp: Stamp): boolean {
    return this.#open?.id === stamp.id;
  }

  /** Reads up to `buffer.length` bytes from the offset; returns how many there were. */
  read(buffer: Buffer, offset: number): number {
    const fd = this.#descriptor();
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
    const previous = this.#queue;
    const turn = (async () => {
      await call.within(previous, `other work on pool ${this.#options.pool}`);
      this.#running = true;
      try {
        return await this.#lockedOnce(mode, call, action);
      } finally {
        this.#running = false;
      }
    })();
    this.#queue = Promise.allSettled([previous, turn]);
    return turn;
  }

  async #lockedOnce<T>(mode: LockMode, call: Call, action: (stamp: Stamp) => T | Promise<T>): Promise<T> {
    for (;;) {
      this.#ensure(mode === "exclusive");
      const { fd, id } = this.#open as { fd: number; id: string };
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

  /** Gives the bytes for editing; only inside an exclusive {@link PoolFile.locked} action. */
  bytes(): PoolBytes {
    const fd = this.#descriptor();
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
      truncate: (size) => this.#attempt("shorten", () => fs.ftruncateSync(fd, size)),
    };
  }

  /**
   * Marks the file as changed by us: gives it a modification time between two ticks of the clock that the file
   * system stamps with, so that any later change shows even within the same tick.
   * @returns whether the mark holds
   */
  mark(nowMs: number): boolean {
    const fd = this.#descriptor();
    try {
      const before = Number(this.#fs.fstatSync(fd, { bigint: true }).mtimeNs) / 1e9;
      const mark = Math.max(nowMs / 1000, before) + (1 + Math.random()) * 1e-6;
      this.#fs.futimesSync(fd, mark, mark);
      const after = Number(this.#fs.fstatSync(fd, { bigint: true }).mtimeNs) / 1e9;
      return after !== before && Math.abs(after - mark) < 1e-6;
    } catch (error) {
      // Only the owner may set times. Without the mark the file counts as unsettled for a moment, which is correct too.
      if (isSystemError(error)) return false;
      throw error;
    }
  }

  /** Resolves when the data is on the disk. */
  async sync(): Promise<void> {
    const fd = this.#descriptor();
    try {
      await new Promise<void>((resolve, reject) => {
        this.#fs.fsync(fd, (error) => (error === null ? resolve() : reject(error)));
      });
    } catch (error) {
      throw this.#map(error, "sync");
    }
  }

  /** Closes the descriptor after the running action. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#queue;
    this.#closeDescriptor();
  }

  #descriptor(): number {
    this.#ensure(false);
    return (this.#open as { fd: number }).fd;
  }

  #ensure(writable: boolean): void {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
    if (this.#open === undefined || (writable && !this.#open.writable)) this.#reopen(writable);
  }

  #closeDescriptor(): void {
    if (this.#open !== undefined) this.#fs.closeSync(this.#open.fd);
    this.#open = undefined;
  }

  #reopen(writable: boolean): void {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
    this.#closeDescriptor();
    const fd = this.#openDescriptor(writable);
    try {
      const stats = this.#fs.fstatSync(fd, { bigint: true });
      checkPoolFile(stats, this.#options, writable);
      if (this.#options.makePrivate && (Number(stats.mode) & 0o077) !== 0) {
        this.#attempt("make private", () => this.#fs.fchmodSync(fd, 0o600));
      }
      this.#open = { fd, id: `${stats.dev}:${stats.ino}`, writable };
    } catch (error) {
      this.#fs.closeSync(fd);
      throw error;
    }
  }

  #openDescriptor(writable: boolean): number {
    const flags = (writable ? O_RDWR : O_RDONLY) | SAFE_FLAGS;
    const mode = this.#options.makePrivate ? 0o600 : 0o644;
    return this.#attempt(writable ? "open for writing" : "open", () => {
      try {
        return this.#fs.openSync(this.path, flags);
      } catch (error) {
        if (!(writable && this.#options.create && isSystemError(error) && error.code === "ENOENT"))
          throw error;
        try {
          return this.#fs.openSync(this.path, flags | O_CREAT | O_EXCL, mode);
        } catch (second) {
          if (isSystemError(second) && second.code === "EEXIST") return this.#fs.openSync(this.path, flags);
          throw second;
        }
      }
    });
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
