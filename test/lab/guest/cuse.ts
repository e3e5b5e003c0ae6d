import { openSync, read, writeSync } from "node:fs";
import {
  countBody,
  decodeFuseRequest,
  decodePoll,
  decodeRead,
  decodeWrite,
  FuseOp,
  type FuseRequest,
  fuseError,
  fusePollNotification,
  fuseReply,
  openBody,
  REQUEST_BYTES,
} from "../../../providers/hyperv/testing/kvp-device/fuse-codec.js";

/*
 * Character devices served from this process: CUSE is FUSE's protocol for one device without files (Linux
 * include/uapi/linux/fuse.h, fs/fuse/cuse.c).
 */

const CUSE_INIT = 4096;
const FUSE_IOCTL = 39;
const UNRESTRICTED_IOCTL = 1;
const IOCTL_RETRY = 4;
const LARGEST = 64 * 1024;
const ENOSYS = 38;

/** Memory of the process that called ioctl. */
export interface Area {
  readonly address: bigint;
  readonly length: number;
}

/** What an ioctl needs next, or its end. */
export type IoctlStep =
  | { readonly read: readonly Area[]; readonly write: readonly Area[] }
  | IoctlEnd
  | {
      /** What waits for an event. */
      readonly later: Promise<IoctlEnd>;
      /** A signal has reached the caller. */
      interrupt(): void;
    };

interface IoctlEnd {
  readonly result: number;
  readonly output: Buffer;
}

/** A device's behaviour; numbers are errno. */
export interface CharacterDevice {
  /** @param handle a number of its own for each open file */
  open(pid: number, handle: bigint): number;
  release(handle: bigint): void;
  read?(size: number, done: (result: Buffer | number) => void): void;
  interrupt?(): void;
  write?(data: Buffer): number;
  poll?(): number;
  /** Called again with the memory that it asked for, all areas in a row. */
  ioctl?(command: number, argument: bigint, memory: Buffer, handle: bigint): IoctlStep;
}

/** Serves one character device below /dev. */
export class CuseServer {
  readonly #fd = openSync("/dev/cuse", "r+");
  readonly #device: CharacterDevice;
  readonly #name: string;
  readonly #polls = new Set<bigint>();
  #reader: bigint | undefined;
  #lastHandle = 0;
  readonly #waiting = new Map<bigint, () => void>();
  #ready: () => void = () => undefined;

  /** @param name below /dev, with `!` for a slash */
  constructor(name: string, device: CharacterDevice) {
    this.#name = name;
    this.#device = device;
  }

  /** Resolves when the kernel knows the device. */
  start(): Promise<void> {
    this.#next();
    return new Promise((resolve) => {
      this.#ready = resolve;
    });
  }

  /** Wakes those who poll. */
  notify(): void {
    for (const handle of this.#polls) this.#send(fusePollNotification(handle));
    this.#polls.clear();
  }

  #next(): void {
    read(
      this.#fd,
      Buffer.alloc(REQUEST_BYTES + LARGEST),
      0,
      REQUEST_BYTES + LARGEST,
      null,
      (error, count, bytes) => {
        if (error !== null && error.code !== "ENOENT" && error.code !== "EINTR") throw error;
        if (error === null) this.#handle(decodeFuseRequest(bytes.subarray(0, count)));
        this.#next();
      },
    );
  }

  #send(reply: Buffer): void {
    try {
      writeSync(this.#fd, reply);
    } catch (error) {
      // ENOENT: who asked is gone.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }

  #handle({ opcode, unique, pid, body }: FuseRequest): void {
    const device = this.#device;
    const status = (errno: number, reply: Buffer): void =>
      this.#send(errno === 0 ? fuseReply(unique, reply) : fuseError(unique, errno));
    switch (opcode) {
      case CUSE_INIT:
        this.#send(fuseReply(unique, initReply(this.#name)));
        // Behind the reply the kernel makes the device.
        setImmediate(this.#ready);
        break;
      case FuseOp.open: {
        const handle = ++this.#lastHandle;
        status(device.open(pid, BigInt(handle)), openBody(handle));
        break;
      }
      case FuseOp.read:
        this.#read(unique, decodeRead(body).size);
        break;
      case FuseOp.write: {
        const data = Buffer.from(decodeWrite(body).data);
        status(device.write?.(data) ?? ENOSYS, countBody(data.length));
        break;
      }
      case FuseOp.poll: {
        const { kernelHandle, notify } = decodePoll(body);
        if (notify) this.#polls.add(kernelHandle);
        this.#send(fuseReply(unique, countBody(device.poll?.() ?? 0)));
        break;
      }
      case FuseOp.interrupt:
        if (body.readBigUInt64LE(0) === this.#reader) device.interrupt?.();
        this.#waiting.get(body.readBigUInt64LE(0))?.();
        break;
      case FuseOp.release:
        this.#polls.clear();
        device.release(body.readBigUInt64LE(0));
        this.#send(fuseReply(unique));
        break;
      case FuseOp.flush:
        this.#send(fuseReply(unique));
        break;
      case FUSE_IOCTL:
        this.#ioctl(unique, body);
        break;
      default:
        this.#send(fuseError(unique, ENOSYS));
        break;
    }
  }

  #read(unique: bigint, size: number): void {
    if (this.#device.read === undefined) {
      this.#send(fuseError(unique, ENOSYS));
      return;
    }
    this.#reader = unique;
    this.#device.read(size, (result) => {
      this.#reader = undefined;
      this.#send(typeof result === "number" ? fuseError(unique, result) : fuseReply(unique, result));
    });
  }

  #ioctl(unique: bigint, body: Buffer): void {
    const { ioctl } = this.#device;
    if (ioctl === undefined) {
      this.#send(fuseError(unique, ENOSYS));
      return;
    }
    const [command, argument] = [body.readUInt32LE(12), body.readBigUInt64LE(16)];
    const step = ioctl.call(this.#device, command, argument, body.subarray(32), body.readBigUInt64LE(0));
    if ("later" in step) {
      this.#waiting.set(unique, step.interrupt);
      void step.later.then((end) => {
        this.#waiting.delete(unique);
        this.#end(unique, end);
      });
      return;
    }
    if ("result" in step) {
      this.#end(unique, step);
      return;
    }
    const head = Buffer.alloc(16);
    head.writeUInt32LE(IOCTL_RETRY, 4);
    head.writeUInt32LE(step.read.length, 8);
    head.writeUInt32LE(step.write.length, 12);
    const areas = [...step.read, ...step.write].map(({ address, length }) => {
      const area = Buffer.alloc(16);
      area.writeBigUInt64LE(address, 0);
      area.writeBigUInt64LE(BigInt(length), 8);
      return area;
    });
    this.#send(fuseReply(unique, Buffer.concat([head, ...areas])));
  }

  /** An error goes without data: the caller's memory stays as it was. */
  #end(unique: bigint, { result, output }: IoctlEnd): void {
    if (result < 0) {
      this.#send(fuseError(unique, -result));
      return;
    }
    const head = Buffer.alloc(16);
    head.writeInt32LE(result, 0);
    this.#send(fuseReply(unique, Buffer.concat([head, output])));
  }
}

/** struct cuse_init_out and the device's name. */
function initReply(name: string): Buffer {
  const reply = Buffer.alloc(72);
  for (const [at, value] of [
    [0, 7],
    [4, 31],
    [12, UNRESTRICTED_IOCTL],
    [16, LARGEST],
    [20, LARGEST],
  ] as const)
    reply.writeUInt32LE(value, at);
  return Buffer.concat([reply, Buffer.from(`DEVNAME=${name}\0`)]);
}
