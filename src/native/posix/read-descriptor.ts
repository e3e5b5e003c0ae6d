import { closeDescriptor, duplicate } from "../ffi/descriptor.js";
import type { Libc, NativeFunction } from "../ffi/libc.js";

/* poll.h of every system served: struct pollfd is fd i32 at 0, events i16 at 4, revents i16 at 6. */
const POLLIN = 0x1;
const POLLHUP = 0x10;

/** A duplicate of a descriptor, to be read when an event says so. */
export class ReadDescriptor {
  /** The duplicate. */
  readonly fd: number;
  readonly #libc: Libc;
  readonly #poll: NativeFunction;
  readonly #read: NativeFunction;
  readonly #buffer: Buffer;
  readonly #trusting: boolean;
  readonly #pollfd = Buffer.alloc(8);

  /**
   * @param trusting read on an event's word alone, without asking again
   * @throws a system error, `EBADF` for what is no descriptor
   */
  constructor(libc: Libc, fd: number, bufferBytes: number, trusting: boolean) {
    this.#libc = libc;
    this.#trusting = trusting;
    this.#poll = libc.function("int poll(void *, unsigned long, int)");
    this.#read = libc.function("intptr_t read(int, void *, size_t)");
    this.#buffer = Buffer.alloc(bufferBytes);
    this.fd = duplicate(libc, fd);
    this.#pollfd.writeInt32LE(this.fd, 0);
    this.#pollfd.writeInt16LE(POLLIN, 4);
  }

  /**
   * Reads once what is there, a view that holds until the next read: empty at the end of file, `again` when there is nothing after all.
   * @param failed errno that the event came with; taken when the read itself finds no fault
   */
  read(failed: number | undefined): Buffer | Error | "again" {
    // Some devices sleep in read although non-blocking (hv_kvp): never without an event at hand.
    if (!this.#trusting && this.#events() === 0) return failed === undefined ? "again" : this.#error(failed);
    const { rc, errno } = this.#libc.call(this.#read, this.fd, this.#buffer, this.#buffer.length);
    if (rc >= 0) return this.#buffer.subarray(0, rc);
    const name = this.#libc.errnoName(errno);
    if (name !== "EAGAIN" && name !== "EINTR") return this.#error(errno);
    return failed === undefined ? "again" : this.#error(failed);
  }

  /** Reports whether the other side is closed. */
  isHungUp(): boolean {
    return (this.#events() & POLLHUP) !== 0;
  }

  /** Closes the duplicate. */
  close(): void {
    closeDescriptor(this.fd);
  }

  #events(): number {
    this.#pollfd.writeInt16LE(0, 6);
    const rc = this.#poll(this.#pollfd, 1, 0);
    return rc > 0 ? this.#pollfd.readInt16LE(6) : 0;
  }

  #error(errno: number): Error {
    return this.#libc.systemError("read", errno);
  }
}
