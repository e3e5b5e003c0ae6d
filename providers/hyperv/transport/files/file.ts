import nodeFs from "node:fs";
import { dirname } from "node:path";
import { pvbusError } from "../../../../src/base/errors.js";
import type { Call } from "../../../../src/base/flow/call.js";
import { Closing } from "../../../../src/base/flow/closing.js";
import { KeyedQueues } from "../../../../src/base/flow/queues.js";
import type { LockMode } from "../../../../src/native/posix/file-lock.js";
import { isMissing } from "../pool.js";
import {
  attempt,
  checkPoolFile,
  idOf,
  named,
  type OpenFile,
  type OpenOptions,
  openPoolFile,
  type PoolFs,
  poolError,
} from "./descriptor.js";
import type { PoolBytes } from "./edit.js";
import type { Stamp } from "./stamp.js";

/** Takes the pool locks on an open file; see src/native/posix/file-lock.ts for the families. */
export type Locker = (fd: number, options: { mode: LockMode; call: Call }) => Promise<{ release(): void }>;

/** What a pool file needs to know of its surroundings; its path also tells pool files apart. */
export interface PoolFileOptions extends OpenOptions {
  readonly lock: Locker;
  /** Tells whether the file by its name is what it was at the last look: quicker than the file system's own way, where it is there. */
  readonly unchanged?: { look(): boolean } | undefined;
  /** Stands in for the file system in tests. */
  readonly fs?: PoolFs;
}

/** By path: of all users of a file in this process one at a time waits for its locks. */
const QUEUES = new KeyedQueues();

/** The descriptor of a pool file. Record locks of the POSIX kind need one for all users in the process. */
export interface PoolDescriptor {
  open?: OpenFile | undefined;
  /** The locked action at hand, whosever it is; never rejects. */
  running?: Promise<unknown> | undefined;
  users: number;
  /** Called when the last user has closed it. */
  readonly unused?: () => void;
}

/**
 * One pool file: reports its state, reads, locks, and hands out its bytes for editing. Keeps one descriptor open, follows a
 * replaced file, and serialises all users of its locks inside the process.
 */
export class PoolFile {
  readonly #options: PoolFileOptions;
  readonly #fs: PoolFs;
  readonly #descriptor: PoolDescriptor;
  /** What was opened, perhaps by another user, and passed the checks of this one. */
  #checked: OpenFile | undefined;
  /** This user's locked action at hand; never rejects. */
  #running: Promise<unknown> | undefined;
  readonly #closing = new Closing();
  #directorySynced = false;
  /** What the last look saw, if nothing changed while it looked. */
  #last: Stamp | undefined;

  /** @param descriptor one that others use too; default: one of its own */
  constructor(options: PoolFileOptions, descriptor: PoolDescriptor = { users: 0 }) {
    this.#options = options;
    this.#fs = options.fs ?? nodeFs;
    this.#descriptor = descriptor;
    descriptor.users++;
  }

  get path(): string {
    return this.#options.path;
  }

  /**
   * Returns the file's state by its name, opening it when it is not open or another file took its place (but never
   * closing a descriptor that a locked action uses: compare with {@link PoolFile.holds}).
   * @throws PvbusError `ERR_UNAVAILABLE` when it is missing, `ERR_PERMISSION`, `ERR_CORRUPT` when it is no file
   */
  stamp(): Stamp {
    const { unchanged } = this.#options;
    if (unchanged === undefined) return this.#stamp();
    if (unchanged.look() && this.#last !== undefined && this.holds(this.#last)) return this.#last;
    const stamp = this.#stamp();
    // Before and after it: what the name stood for meanwhile is what the stamp says.
    this.#last = unchanged.look() ? stamp : undefined;
    return stamp;
  }

  #stamp(): Stamp {
    const stats = named("stat", this.#options, (name) => this.#fs.lstatSync(name, { bigint: true }));
    const id = idOf(stats);
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
    attempt("read", this.#options, () => {
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
    return QUEUES.run(this.path, call, `other work on pool ${this.#options.pool}`, async () => {
      this.#closing.check();
      const work = this.#lockedOnce(mode, call, action);
      this.#running = work.catch(() => undefined);
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
      const lock = await this.#options.lock(fd, { mode, call }).catch(this.#refuse("lock"));
      try {
        const stamp = this.#stampUnlessGone(mode);
        if (stamp?.id === id) return await action(stamp);
      } finally {
        lock.release();
      }
      this.#closeDescriptor();
    }
  }

  /** A file that was removed while it was open is made again where it may be. */
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
        if (this.read(into, offset) < into.length)
          throw pvbusError("ERR_CONFLICT", `${this.path} became shorter under our lock; try again`);
      },
      write: (bytes, offset) => {
        attempt("write", this.#options, () => {
          for (let done = 0; done < bytes.length; )
            done += fs.writeSync(fd, bytes, done, bytes.length - done, offset + done);
        });
      },
      resize: (size) => attempt("resize", this.#options, () => fs.ftruncateSync(fd, size)),
    };
  }

  /** Resolves when the data is on the disk, and the file's name in its directory. */
  async sync(): Promise<void> {
    await this.#sync(this.#ensure(false).fd);
    // Windows opens no directories; pools are files there in captured trees alone.
    if (this.#directorySynced || process.platform === "win32") return;
    const directory = named("open the directory of", this.#options, (name) =>
      this.#fs.openSync(dirname(name), nodeFs.constants.O_RDONLY),
    );
    try {
      await this.#sync(directory);
      this.#directorySynced = true;
    } finally {
      this.#fs.closeSync(directory);
    }
  }

  #sync(fd: number): Promise<void> {
    const synced = new Promise<void>((resolve, reject) => {
      this.#fs.fsync(fd, (error) => (error === null ? resolve() : reject(error)));
    });
    return synced.catch(this.#refuse("sync"));
  }

  #refuse(doing: string): (error: unknown) => never {
    return (error) => {
      throw poolError(error, doing, this.#options);
    };
  }

  /** Ends its use after this user's action at hand; what waits is refused. The last user closes the descriptor. May be called twice. */
  async close(): Promise<void> {
    const wasOpen = this.#closing.close();
    await this.#running;
    if (!wasOpen || --this.#descriptor.users > 0) return;
    this.#closeDescriptor();
    this.#descriptor.unused?.();
  }

  #ensure(writable: boolean): OpenFile {
    if (this.#running === undefined) this.#closing.check();
    const { open } = this.#descriptor;
    if (open === undefined || (writable && !open.writable)) return this.#reopen(writable);
    if (open !== this.#checked) {
      checkPoolFile(this.#fs, this.#options, open);
      this.#checked = open;
    }
    return open;
  }

  #reopen(writable: boolean): OpenFile {
    this.#closing.check();
    this.#closeDescriptor();
    this.#checked = openPoolFile(this.#fs, this.#options, writable);
    this.#descriptor.open = this.#checked;
    return this.#checked;
  }

  #closeDescriptor(): void {
    const { open } = this.#descriptor;
    if (open !== undefined) this.#fs.closeSync(open.fd);
    this.#descriptor.open = undefined;
  }
}
