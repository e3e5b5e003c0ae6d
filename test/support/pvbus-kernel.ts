import { type HostctlErrno, HostctlError } from "../../src/contract/hostctl.js";
import type { PvbusIoctl } from "../../src/native/bsd/pvbus-device.js";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";

/** A driver's key-value call as the kernel makes it: both ends of the exchange are NUL-terminated text in buffers. */
export interface SimulatedDriver {
  /** Type that the kernel answers by itself. */
  readonly type: string;
  /** Reads into a buffer of `room` bytes. @throws HostctlError */
  read(key: string, room: number): Buffer;
  /** Writes; gives what is left in the value buffer. @throws HostctlError */
  write(key: string, value: Buffer, room: number): Buffer;
}

const LARGEST = 65_536;

/**
 * OpenBSD's pvbusioctl over a driver, down to the addresses in the request: it reads and writes the caller's memory as
 * the kernel's copyin and copyout do. Source: OpenBSD sys/dev/pv/pvbus.c.
 */
export function simulatedPvbusKernel(driver: SimulatedDriver, wordBytes = 8): PvbusIoctl {
  const koffi = loadKoffi();
  const libc = openLibc();
  const memory = (address: bigint, length: number): Buffer => Buffer.from(koffi.view(address, length));
  const refuse = (errno: HostctlErrno): never => {
    throw libc.systemError("ioctl", libc.errnoNumber(errno));
  };
  return (_fd, request, address) => {
    const words = memory(address, 4 * wordBytes);
    const word = (index: number): bigint =>
      wordBytes === 8
        ? words.readBigUInt64LE(index * 8)
        : // The upper half of an address does not fit into a 32-bit word: it is the block's own.
          BigInt(words.readUInt32LE(index * 4));
    const place = (index: number): bigint =>
      wordBytes === 8 ? word(index) : (address & ~0xffff_ffffn) | word(index);
    const [keyLength, valueLength] = [Number(word(0)), Number(word(2))];
    const number = request - (0xc000_5600 + ((4 * wordBytes) << 16));
    if (number === 3) {
      if (keyLength < driver.type.length + 1) return refuse("ENOMEM");
      memory(place(1), keyLength).write(`${driver.type}\0`);
      return;
    }
    if (number !== 1 && number !== 2) return refuse("ENOTTY");
    for (const length of [keyLength, valueLength]) {
      if (length === 0) return refuse("EINVAL");
      if (length > LARGEST) return refuse("ENAMETOOLONG");
    }
    const key = memory(place(1), keyLength).toString("latin1").split("\0", 1)[0] as string;
    const buffer = memory(place(3), valueLength);
    try {
      const text = Buffer.from(buffer);
      const end = text.indexOf(0);
      const value = end < 0 ? text : text.subarray(0, end);
      const left = number === 1 ? driver.read(key, valueLength) : driver.write(key, value, valueLength);
      // One byte more than announced, when a driver fills the buffer: the kernel's buffer has that byte.
      const out = memory(place(3), valueLength + 1);
      out.set(left.subarray(0, valueLength));
      out[Math.min(left.length, valueLength)] = 0;
    } catch (error) {
      if (error instanceof HostctlError) return refuse(error.errno);
      throw error;
    }
  };
}
