import { closeSync, constants, openSync } from "node:fs";
import { Duplex } from "node:stream";
import { Call } from "../../src/index.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import type { DeviceStream, DeviceStreamOptions } from "../../src/native/posix/device-stream.js";

/**
 * Makes a pair of terminals: an open descriptor of one end, and the path of the other, which is as a serial port. A second
 * descriptor keeps that open, since the first end fails when nobody has it open; close it in the end.
 */
export function openPty(): { readonly fd: number; readonly path: string; readonly keeper: number } {
  const libc = openLibc();
  const fd = openSync("/dev/ptmx", constants.O_RDWR | constants.O_NOCTTY);
  const name = Buffer.alloc(64);
  const steps = [
    libc.call(libc.function("int grantpt(int)"), fd),
    libc.call(libc.function("int unlockpt(int)"), fd),
    libc.call(libc.function("int ptsname_r(int, void *, size_t)"), fd, name, name.length),
  ];
  for (const { rc, errno } of steps) {
    if (rc === 0) continue;
    closeSync(fd);
    throw libc.systemError("openpty", errno);
  }
  const path = name.toString("latin1", 0, name.indexOf(0));
  return { fd, path, keeper: openSync(path, constants.O_RDWR | constants.O_NOCTTY) };
}

/** A device stream as Node's streams are. */
export class DeviceDuplex extends Duplex {
  #stream: DeviceStream | undefined;

  /** Makes one of what opens with these listeners. */
  static async over(
    open: (options: DeviceStreamOptions) => DeviceStream | Promise<DeviceStream>,
  ): Promise<DeviceDuplex> {
    const duplex = new DeviceDuplex();
    duplex.#stream = await open({
      bufferBytes: 64 * 1024,
      onData: (data) => duplex.push(data),
      onEnd: () => duplex.destroy(),
    });
    return duplex;
  }

  override _read(): void {
    // It pushes whatever comes.
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this.#stream?.write(chunk, new Call({ timeoutMs: 5_000 })).then(() => done(), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const stream = this.#stream;
    this.#stream = undefined;
    Promise.resolve(stream?.close()).then(
      () => done(error),
      () => done(error),
    );
  }
}
