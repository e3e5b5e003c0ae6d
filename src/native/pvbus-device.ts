import { closeSync, constants, openSync } from "node:fs";
import { ioctl } from "./ioctl.js";
import { type KoffiLoader, loadKoffi } from "./koffi.js";
import { type Libc, openLibc } from "./libc.js";
import { NativeBlock } from "./native-block.js";

/* Requests on LP64 (OpenBSD sys/dev/pv/pvvar.h, sys/ioccom.h). */
const PVBUSIOC_KVREAD = 0xc020_5601;
const PVBUSIOC_KVWRITE = 0xc020_5602;
const PVBUSIOC_TYPE = 0xc020_5603;
/** Largest key and value buffer (pvvar.h, since OpenBSD 7.3; 4096 before). */
export const PVBUS_KVOP_MAXSIZE = 65_536;
/** Bytes of the buffer for the type's name. */
const TYPE_SIZE = 64;

/*
 * struct pvbus_req on LP64: key length at 0, key pointer at 8, value length at 16, value pointer at 24. It stands at the
 * beginning of the block, the key behind it, the value behind the key.
 */
const REQUEST_SIZE = 32;
const KEY_AT = REQUEST_SIZE;
/** The kernel copies a value out up to its NUL, which a driver may have put behind the last byte announced. */
const SPARE = 8;

/** The ioctl call; stands in for a kernel in tests. */
export type PvbusIoctl = (fd: number, request: number, address: bigint) => void;

/** What {@link openPvbusDevice} may be given. */
export interface PvbusDeviceOptions {
  /** Opens for writes too. Default false: group wheel may read, only root may write. */
  readonly writable?: boolean | undefined;
  /** Stands in for the kernel's call. */
  readonly ioctl?: PvbusIoctl | undefined;
  /** Stands in for the native library. */
  readonly koffi?: KoffiLoader | undefined;
}

/**
 * OpenBSD's `/dev/pvbusN`: the kernel's own key-value call of one interface. Each call is one ioctl on this thread; the
 * kernel's drivers answer from memory or from the hypervisor at once.
 *
 * Keys are cut by the kernel at a NUL; callers check them. Layout and requests are those of LP64 systems. Not verified by a
 * run on OpenBSD.
 */
export class PvbusKernelDevice implements Disposable {
  readonly #fd: number;
  readonly #libc: Libc;
  readonly #ioctl: PvbusIoctl;
  #block: NativeBlock | undefined;
  #closed = false;

  /** @internal Use {@link openPvbusDevice}. */
  constructor(fd: number, libc: Libc, call: PvbusIoctl | undefined) {
    this.#fd = fd;
    this.#libc = libc;
    this.#ioctl = call ?? ((fd, request, address) => ioctl(libc, fd, request, address));
  }

  /** Asks for the type, `Xen`. @throws a system error: `ENXIO` without such an interface */
  type(): string {
    // Its name comes back in the key's buffer.
    return upToNul(this.#call(PVBUSIOC_TYPE, { key: Buffer.alloc(TYPE_SIZE - 1), room: 1 }).key).toString(
      "latin1",
    );
  }

  /**
   * Reads a key into a buffer of `room` bytes.
   * @returns the value without its NUL
   * @throws a system error: `ERANGE` for a buffer that is too small, the driver's own otherwise
   */
  read(key: Uint8Array, room: number): Buffer {
    return upToNul(this.#call(PVBUSIOC_KVREAD, { key, room }).value);
  }

  /**
   * Writes a key.
   * @param room bytes of the value's buffer, which some drivers answer in; at least the value and its NUL
   * @returns what the driver left in the value's buffer
   * @throws a system error: `EPERM` on a device opened for reading, the driver's own otherwise
   */
  write(key: Uint8Array, value: Uint8Array, room: number = value.length + 1): Buffer {
    return upToNul(this.#call(PVBUSIOC_KVWRITE, { key, value, room }).value);
  }

  /** Closes the device; may be called twice. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#block?.free();
    closeSync(this.#fd);
  }

  /** The same, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #call(
    request: number,
    { key, value, room }: { readonly key: Uint8Array; readonly value?: Uint8Array; readonly room: number },
  ): { readonly key: Buffer; readonly value: Buffer } {
    if (this.#closed) throw this.#error("EBADF");
    const keyLength = key.length + 1;
    const valueLength = Math.max(room, (value?.length ?? 0) + 1);
    // The kernel's own checks, before anything is copied.
    if (keyLength > PVBUS_KVOP_MAXSIZE || valueLength > PVBUS_KVOP_MAXSIZE) throw this.#error("ENAMETOOLONG");
    const block = this.#room(KEY_AT + keyLength + valueLength + SPARE);
    const { bytes, address } = block;
    const valueAt = KEY_AT + keyLength;
    bytes.writeBigUInt64LE(BigInt(keyLength), 0);
    bytes.writeBigUInt64LE(address + BigInt(KEY_AT), 8);
    bytes.writeBigUInt64LE(BigInt(valueLength), 16);
    bytes.writeBigUInt64LE(address + BigInt(valueAt), 24);
    bytes.fill(0, KEY_AT, valueAt + valueLength + SPARE);
    bytes.set(key, KEY_AT);
    if (value !== undefined) bytes.set(value, valueAt);
    this.#ioctl(this.#fd, request, address);
    return {
      key: Buffer.from(bytes.subarray(KEY_AT, valueAt)),
      value: Buffer.from(bytes.subarray(valueAt, valueAt + valueLength + 1)),
    };
  }

  /** Gives the block, grown when needed. */
  #room(size: number): NativeBlock {
    if (this.#block !== undefined && this.#block.bytes.length >= size) return this.#block;
    this.#block?.free();
    this.#block = undefined;
    this.#block = new NativeBlock(this.#libc.koffi, size);
    return this.#block;
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
export function openPvbusDevice(path: string, options: PvbusDeviceOptions = {}): PvbusKernelDevice {
  const libc = openLibc(options.koffi ?? loadKoffi);
  const fd = openSync(path, options.writable === true ? constants.O_RDWR : constants.O_RDONLY);
  return new PvbusKernelDevice(fd, libc, options.ioctl);
}

function upToNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}
