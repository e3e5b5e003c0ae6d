import { closeDescriptor, ownDescriptors } from "../ffi/descriptor.js";
import type { Libc, NativeFunction } from "../ffi/libc.js";

/** O_NONBLOCK | O_CLOEXEC (fcntl.h of each system; the BSD ones not verified by a run). */
const PIPE_FLAGS: Partial<Record<NodeJS.Platform, number>> = {
  linux: 0x800 | 0x8_0000,
  android: 0x800 | 0x8_0000,
  freebsd: 0x4 | 0x10_0000,
  openbsd: 0x4 | 0x1_0000,
  netbsd: 0x4 | 0x40_0000,
};

/** A pipe that ends a poll(2) in another thread. */
export class WakePipe {
  /** The end to poll for input. */
  readonly fd: number;
  readonly #writeFd: number;
  readonly #read: NativeFunction;
  readonly #write: NativeFunction;
  readonly #bytes = Buffer.alloc(64);

  /** @throws a system error when no pipe can be made */
  constructor(libc: Libc, platform: NodeJS.Platform = process.platform) {
    this.#read = libc.function("intptr_t read(int, void *, size_t)");
    this.#write = libc.function("intptr_t write(int, const void *, size_t)");
    const ends = Buffer.alloc(8);
    const flags = PIPE_FLAGS[platform];
    const { rc, errno } =
      flags === undefined
        ? { rc: -1, errno: libc.errnoNumber("ENOSYS") }
        : libc.call(libc.function("int pipe2(void *, int)"), ends, flags);
    if (rc !== 0) throw libc.systemError("pipe2", errno);
    const [fd, writeFd] = ownDescriptors(libc, [ends.readInt32LE(0), ends.readInt32LE(4)]);
    this.fd = fd as number;
    this.#writeFd = writeFd as number;
  }

  /** Makes the pipe readable; a full pipe is readable already. */
  wake(): void {
    this.#write(this.#writeFd, this.#bytes, 1);
  }

  /** Empties the pipe. */
  drain(): void {
    while (this.#read(this.fd, this.#bytes, this.#bytes.length) === this.#bytes.length);
  }

  /** Closes both ends; nothing may poll it any more. */
  close(): void {
    closeDescriptor(this.fd);
    closeDescriptor(this.#writeFd);
  }
}
