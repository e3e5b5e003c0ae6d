import { closeSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { pvbusError } from "../../base/errors.js";
import { callAsync, waitAsync } from "../ffi/async-call.js";
import type { Libc, NativeArgument, NativeFunction, NativeResult } from "../ffi/libc.js";
import { NativeBlock } from "../ffi/memory.js";
import { openLibc } from "../ffi/open-libc.js";

/** Where a request's structure lies. */
type Memory = Pick<NativeBlock, "address">;

/** A request that ends a wait of the same file, prepared before the wait begins. */
export interface WaitEnding {
  /** Its number. */
  readonly request: number;
  /** Its structure. */
  readonly memory: Memory;
  /** Whether the wait is seen to have ended, by what the driver left in its structure. */
  isDone(): boolean;
}

/** Where a pointer behind the fixed arguments travels as a named one does: koffi has no asynchronous variadic calls. */
const FITTING: readonly string[] = ["linux x64", "linux arm64", "freebsd x64", "freebsd arm64"];
const IOCTL = "int ioctl(int, unsigned long, void *)";
/** Longest time that the end of a process waits for the end of a wait. */
const EXIT_MS = 300;
const EXIT_STEP_MS = 5;

/** Waits that are under way in this thread. */
const waiting = new Map<IoctlFile, WaitEnding>();

/**
 * An open device that is asked by ioctl(2), on threads of the pool: none of its calls holds up this thread. A wait holds up the
 * end of the process neither: it is ended by the request that ends it.
 */
export class IoctlFile {
  readonly #fd: number;
  readonly #libc: Libc;
  readonly #ioctl: NativeFunction;
  #running = 0;
  #closing: (() => void) | undefined;
  #isClosed = false;

  /**
   * Takes over a descriptor, and closes it also where it throws.
   * @param declaration stands in for ioctl(2) in tests
   * @throws PvbusError `ERR_UNAVAILABLE` without native calls, `ERR_NOT_SUPPORTED` on a platform that passes arguments otherwise
   */
  constructor(fd: number, declaration: string = IOCTL) {
    this.#fd = fd;
    try {
      this.#libc = openLibc();
      if (!FITTING.includes(`${process.platform} ${process.arch}`))
        throw pvbusError(
          "ERR_NOT_SUPPORTED",
          `drivers cannot be asked on ${process.platform} ${process.arch}; use ${FITTING.join(", ")}`,
        );
      this.#ioctl = this.#libc.function(declaration);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Returns memory that a request's structure, and what it points to, may lie in; the caller frees it after the request. */
  allocate(size: number): NativeBlock {
    return new NativeBlock(this.#libc.koffi, size);
  }

  /** Sends a request that ends soon. @returns the error's name, `EINVAL`; undefined: there was none */
  request(request: number, memory: Memory): Promise<string | undefined> {
    return this.#run(callAsync, request, memory);
  }

  /** Sends one that waits a second at most. @param ending what ends it before */
  async wait(request: number, memory: Memory, ending: WaitEnding): Promise<string | undefined> {
    if (waiting.size === 0) process.on("exit", endWaits);
    waiting.set(this, ending);
    try {
      return await this.#run(waitAsync, request, memory);
    } finally {
      if (waiting.delete(this) && waiting.size === 0) process.off("exit", endWaits);
    }
  }

  /** Closes it when what is under way has ended: its number must not be another file's meanwhile. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#running > 0)
      await new Promise<void>((resolve) => {
        this.#closing = resolve;
      });
    closeSync(this.#fd);
  }

  /** Begins the request that ends a wait, at the end of the process, when nothing can be awaited any more. */
  beginEnding({ request, memory }: WaitEnding): void {
    this.#ioctl.async(this.#fd, request, memory.address, () => undefined);
  }

  /** Ends the process without waiting for its threads. */
  leave(code: number): void {
    this.#libc.function("void _exit(int)")(code);
  }

  async #run(
    how: (libc: Libc, declared: NativeFunction, ...args: NativeArgument[]) => Promise<NativeResult>,
    request: number,
    memory: Memory,
  ): Promise<string | undefined> {
    if (this.#isClosed) return "EBADF";
    this.#running++;
    try {
      const { rc, errno } = await how(this.#libc, this.#ioctl, this.#fd, request, memory.address);
      return rc < 0 ? this.#libc.errnoName(errno) : undefined;
    } finally {
      if (--this.#running === 0) this.#closing?.();
    }
  }
}

/**
 * Ends the waits that are under way, since the process waits for its threads. A driver that does not end them must not keep the
 * process: it leaves without its threads then.
 */
function endWaits(code: number): void {
  const files = [...waiting];
  for (const [file, ending] of files) file.beginEnding(ending);
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const isEnded = (): boolean => files.every(([, ending]) => ending.isDone());
  for (let ms = 0; ms < EXIT_MS && !isEnded(); ms += EXIT_STEP_MS) Atomics.wait(nap, 0, 0, EXIT_STEP_MS);
  const [first] = files;
  if (isEnded() || !isMainThread) return;
  // What else there is to be done at the end is done: leaving ends it all.
  const listeners = process.listeners("exit");
  for (const listener of listeners.slice(listeners.indexOf(endWaits) + 1)) listener(code);
  first?.[0].leave(code);
}
