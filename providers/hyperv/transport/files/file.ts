import nodeFs from "node:fs";
import { dirname } from "node:path";
import { pvbusError } from "../../../../src/base/errors.js";
import type { Call } from "../../../../src/base/flow/call.js";
import { SerialQueue } from "../../../../src/base/flow/serial-queue.js";
import type { LockMode } from "../../../../src/native/posix/file-lock.js";
import { isMissing } from "../pool.js";
import {
  attempt,
  type Descriptor,
  type DescriptorOptions,
  idOf,
  named,
  openDescriptor,
  type PoolFs,
} from "./descriptor.js";
import type { PoolBytes } from "./edit.js";
import { poolError } from "./errors.js";
import type { Stamp } from "./stamp.js";

/** Takes the pool locks on an open file; see src/native/posix/file-lock.ts for the families. */
export type Locker = (fd: number, options: { mode: LockMode; call: Call }) => Promise<{ release(): void }>;

/** What a pool file needs to know of its surroundings; its path also tells pool files apart. */
export interface PoolFileOptions extends DescriptorOptions {
  /** Takes the locks. */
  readonly lock: Locker;
  /** The file system. */
  readonly fs?: PoolFs;
}

/** By path: the queue in which all users of a file in this process wait for its locks, one of them at a time. */
const queues = new Map<string, { readonly queue: SerialQueue; users: number }>();

/**
 * One pool file: tells its state, reads, locks, and hands out its bytes for editing. Keeps one descriptor open, follows a
 * replaced file, and serialises all users of its locks inside the process.
 */
export class PoolFile {
  readonly #options: PoolFileOptions;
  readonly #fs: PoolFs;
  readonly #turns: { readonly queue: SerialQueue; users: number };
  #open: Descriptor | undefined;
  /** The locked action at hand; never rejects. */
  #running: Promise<unknown> | undefined;
  #closed = false;
  #directorySynced = false;

  constructor(options: PoolFileOptions) {
    this.#options = options;
    this.#fs = options.fs ?? nodeFs;
    this.#turns = queues.get(options.path) ?? { queue: new SerialQueue(), users: 0 };
    this.#turns.users++;
    queues.set(options.path, this.#turns);
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
    const stats = attempt("stat", this.#options, () =>
      named(this.#options, (name) => this.#fs.lstatSync(name, { bigint: true })),
    );
    const id = idOf(stats);
    if (this.#open?.id !== id && this.#running === undefined) this.#reopen(this.#open?.writable ?? false);
    return { id, size: Number(stats.size), mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs };
  }

  /** Reports whether the open descriptor is the file of that stamp. */
  holds(stamp: Stamp): boolean {
    return this.#open?.id === stamp.id;
  }

  /** Reads up to `buffer.length` bytes from the offset; returns how many there were. */
  read(buffer: Buffer, offset: number): number {
    const { fd } = this.#descriptor(false);
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
    return this.#turns.queue.run(call, `other work on pool ${this.#options.pool}`, async () => {
      this.#checkOpen();
      const work = this.#lockedOnce(mode, call, action);
      this.#running = work.then(
        () => undefined,
        () => undefined,
      );
      try {
        return await work;
      } finally {
        this.#running = undefined;
      }
    });
  }

  async #lockedOnce<T>(mode: LockMode, call: Call, action: (stamp: Stamp) => T | Promise<T>): Promise<T> {
    for (;;) {
      const { fd, id } = this.#descriptor(mode === "exclusive");
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

  async #lock(fd: number, mode: LockMode, call: Call): Promise<{ release(): void }> {
    try {
      return await this.#options.lock(fd, { mode, call });
    } catch (error) {
      throw poolError(error, "lock", this.#options);
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
    const { fd } = this.#descriptor(false);
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
        attempt("write", this.#options, () => {
          for (let done = 0; done < bytes.length; ) {
            done += fs.writeSync(fd, bytes, done, bytes.length - done, offset + done);
          }
        });
      },
      resize: (size) => attempt("resize", this.#options, () => fs.ftruncateSync(fd, size)),
    };
  }

  /** Resolves when the data is on the disk, and the file's name in its directory. */
  async sync(): Promise<void> {
    await this.#sync(this.#descriptor(false).fd);
    // Windows opens no directories; pools are files there in captured trees alone.
    if (this.#directorySynced || process.platform === "win32") return;
    const directory = attempt("open the directory of", this.#options, () =>
      named(this.#options, (name) => this.#fs.openSync(dirname(name), nodeFs.constants.O_RDONLY)),
    );
    try {
      await this.#sync(directory);
      this.#directorySynced = true;
    } finally {
      this.#fs.closeSync(directory);
    }
  }

  async #sync(fd: number): Promise<void> {
    try {
      await new Promise<void>((resolve, reject) => {
        this.#fs.fsync(fd, (error) => (error === null ? resolve() : reject(error)));
      });
    } catch (error) {
      throw poolError(error, "sync", this.#options);
    }
  }

  /** Closes the descriptor after the action at hand; what waits for its turn is refused. May be called twice. */
  async close(): Promise<void> {
    const wasClosed = this.#closed;
    this.#closed = true;
    await this.#running;
    this.#closeDescriptor();
    if (!wasClosed && --this.#turns.users === 0) queues.delete(this.path);
  }

  #descriptor(writable: boolean): Descriptor {
    if (this.#open === undefined || (writable && !this.#open.writable)) return this.#reopen(writable);
    return this.#open;
  }

  #reopen(writable: boolean): Descriptor {
    this.#checkOpen();
    this.#closeDescriptor();
    this.#open = openDescriptor(this.#fs, this.#options, writable);
    return this.#open;
  }

  #closeDescriptor(): void {
    if (this.#open !== undefined) this.#fs.closeSync(this.#open.fd);
    this.#open = undefined;
  }

  #checkOpen(): void {
    if (this.#closed) throw pvbusError("ERR_DISCONNECTED", "the store is closed; open the bus again");
  }
}
