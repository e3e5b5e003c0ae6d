import { closeSync, constants, openSync, readdirSync } from "node:fs";
import { pvbusError } from "../../base/errors.js";
import { upToNul } from "../../base/outside-text.js";
import { isSystemError } from "../../base/system-error.js";
import type { Libc } from "../ffi/libc.js";
import { NativeBlock } from "../ffi/memory.js";
import { openLibc } from "../ffi/open-libc.js";

/** Numbers of the requests (OpenBSD sys/dev/pv/pvvar.h). */
const KVREAD = 1;
const KVWRITE = 2;
const TYPE = 3;
/** Largest key and value buffer (pvvar.h, since OpenBSD 7.3; 4096 before). */
export const PVBUS_KVOP_MAXSIZE = 65_536;
const TYPE_SIZE = 64;
/**
 * struct pvbus_req is four machine words: length and address of the key, then of the value. It stands at the beginning
 * of the block, the key behind it, the value behind the key.
 */
const REQUEST_WORDS = 4;
/** The kernel copies a value out up to its NUL, which a driver may have put behind the last byte announced. */
const SPARE = 8;

/** The ioctl call; stands in for a kernel in tests. */
export type PvbusIoctl = (fd: number, request: number, address: bigint) => void;

/** What {@link openPvbusDevice} may be given. */
export interface PvbusDeviceOptions {
  /** Opens for writes too. Default false: group wheel may read, only root may write. */
  readonly writable?: boolean | undefined;
  readonly ioctl?: PvbusIoctl | undefined;
  /** Bytes of a machine word, 8 or 4; default: this process's. */
  readonly wordBytes?: number | undefined;
}

/**
 * OpenBSD's `/dev/pvbusN`: the kernel's own key-value call of one interface. Each call is one ioctl on this thread; the
 * kernel's drivers answer from memory or from the hypervisor at once.
 *
 * Keys are cut by the kernel at a NUL; callers check them. Not verified by a run on OpenBSD.
 */
export class PvbusDevice implements Disposable {
  readonly #fd: number;
  readonly #libc: Libc;
  readonly #ioctl: PvbusIoctl;
  readonly #wordBytes: number;
  #block: NativeBlock | undefined;
  #closed = false;

  /** @internal Use {@link openPvbusDevice}. */
  constructor(fd: number, libc: Libc, options: PvbusDeviceOptions) {
    this.#fd = fd;
    this.#libc = libc;
    this.#ioctl = options.ioctl ?? ((fd, request, address) => void libc.ioctl(fd, request, address));
    this.#wordBytes = options.wordBytes ?? libc.koffi.sizeof("void *");
  }

  /** Asks for the type, `Xen`. @throws a system error: `ENXIO` without such an interface */
  type(): string {
    // Its name comes back in the key's buffer.
    return upToNul(this.#call(TYPE, { key: Buffer.alloc(TYPE_SIZE - 1), room: 1 }).key).toString("latin1");
  }

  /**
   * Reads a key into a buffer of `room` bytes.
   * @returns the value without its NUL
   * @throws a system error: `ERANGE` for a buffer that is too small, the driver's own otherwise
   */
  read(key: Uint8Array, room: number): Buffer {
    return upToNul(this.#call(KVREAD, { key, room }).value);
  }

  /**
   * Writes a key.
   * @param room bytes of the value's buffer, which some drivers answer in; at least the value and its NUL
   * @returns what the driver left in the value's buffer
   * @throws a system error: `EPERM` on a device opened for reading, the driver's own otherwise
   */
  write(key: Uint8Array, value: Uint8Array, room: number = value.length + 1): Buffer {
    return upToNul(this.#call(KVWRITE, { key, value, room }).value);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#block?.free();
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #call(
    number: number,
    { key, value, room }: { readonly key: Uint8Array; readonly value?: Uint8Array; readonly room: number },
  ): { readonly key: Buffer; readonly value: Buffer } {
    if (this.#closed) throw this.#error("EBADF");
    const keyLength = key.length + 1;
    const valueLength = Math.max(room, (value?.length ?? 0) + 1);
    // The kernel's own checks, before anything is copied.
    if (keyLength > PVBUS_KVOP_MAXSIZE || valueLength > PVBUS_KVOP_MAXSIZE) throw this.#error("ENAMETOOLONG");
    const keyAt = REQUEST_WORDS * this.#wordBytes;
    const valueAt = keyAt + keyLength;
    const end = valueAt + valueLength + SPARE;
    this.#block = NativeBlock.fitting(this.#block, this.#libc.koffi, end);
    const { bytes, address } = this.#block;
    bytes.fill(0, 0, end);
    const words = [keyLength, address + BigInt(keyAt), valueLength, address + BigInt(valueAt)].map(BigInt);
    for (const [index, word] of words.entries()) {
      const at = index * this.#wordBytes;
      if (this.#wordBytes === 8) bytes.writeBigUInt64LE(word, at);
      else bytes.writeUInt32LE(Number(BigInt.asUintN(32, word)), at);
    }
    bytes.set(key, keyAt);
    if (value !== undefined) bytes.set(value, valueAt);
    // The number of a request that copies the structure in and out (sys/ioccom.h, group V).
    this.#ioctl(this.#fd, 0xc000_5600 + (keyAt << 16) + number, address);
    return {
      key: Buffer.from(bytes.subarray(keyAt, valueAt)),
      value: Buffer.from(bytes.subarray(valueAt, valueAt + valueLength + 1)),
    };
  }

  #error(name: string): Error {
    return this.#libc.systemError("ioctl", this.#libc.errnoNumber(name));
  }
}

/**
 * Opens an OpenBSD pvbus device.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error of open(2): `ENXIO` without such an interface,
 *   `EACCES` for users outside group wheel
 */
export function openPvbusDevice(path: string, options: PvbusDeviceOptions = {}): PvbusDevice {
  const libc = openLibc();
  const fd = openSync(path, options.writable === true ? constants.O_RDWR : constants.O_RDONLY);
  return new PvbusDevice(fd, libc, options);
}

/** Asks an OpenBSD pvbus device for its type; undefined when it cannot be opened or has none. */
export function readPvbusType(path: string): string | undefined {
  try {
    using device = openPvbusDevice(path);
    return device.type();
  } catch (error) {
    if (isSystemError(error)) return undefined;
    throw error;
  }
}

/** Returns the paths of this machine's pvbus devices. @throws a system error */
export function pvbusPaths(): string[] {
  const names = readdirSync("/dev").filter((name) => /^pvbus\d+$/.test(name));
  return names.sort().map((name) => `/dev/${name}`);
}

/** An open device, as far as its callers need it. */
export type PvbusNode = Pick<PvbusDevice, "type" | "read" | "write" | "close">;

/** OpenBSD's pvbus devices; stands in for them in tests. */
export interface PvbusNodes {
  paths(): readonly string[];
  open(path: string, options: PvbusDeviceOptions): PvbusNode;
}

const LIVE: PvbusNodes = { paths: pvbusPaths, open: openPvbusDevice };

/** The device of one type of interface, found and opened on first use; for writing when something is written first. */
export class PvbusNodeOfType {
  readonly #type: string;
  readonly #nodes: PvbusNodes;
  #path: string | undefined;
  readonly #open = new Map<boolean, PvbusNode>();

  /** @param type as the kernel gives it, `Xen` */
  constructor(type: string, nodes: PvbusNodes = LIVE) {
    this.#type = type;
    this.#nodes = nodes;
  }

  /**
   * Returns the open device.
   * @throws PvbusError `ERR_UNAVAILABLE` when there is none of that type; a system error of open(2)
   */
  get(writable: boolean): PvbusNode {
    const known = this.#open.get(writable);
    if (known !== undefined) return known;
    this.#path ??= this.#find();
    const device = this.#nodes.open(this.#path, { writable });
    this.#open.set(writable, device);
    return device;
  }

  close(): void {
    for (const device of this.#open.values()) device.close();
    this.#open.clear();
  }

  #find(): string {
    for (const path of this.#nodes.paths()) {
      try {
        const device = this.#nodes.open(path, {});
        try {
          if (device.type() === this.#type) return path;
        } finally {
          device.close();
        }
      } catch (error) {
        // A node without an interface; one that may not be opened is what the caller has to know.
        if (!isSystemError(error) || error.code === "EACCES" || error.code === "EPERM") throw error;
      }
    }
    throw pvbusError(
      "ERR_UNAVAILABLE",
      `no /dev/pvbusN is of type ${this.#type}; the kernel attaches the driver on such machines only, see dmesg`,
    );
  }
}
