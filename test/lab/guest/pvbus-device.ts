/** A process that is OpenBSD's pvbus(4) with hypervic(4) behind it, `/dev/pvbus0`, down to the copies of an ioctl's memory. */
import { constants } from "node:os";
import { HostctlError } from "../../../src/base/hostctl-error.js";
import { Hypervic } from "../../support/hypervic.js";
import { type Area, CuseServer, type IoctlStep } from "./cuse.js";

const REQUEST_BYTES = 32;
const FIRST_REQUEST = 0xc020_5600;
const [KVREAD, KVWRITE, TYPE] = [1, 2, 3];
const LARGEST = 65_536;
const { ENOTTY, EINVAL, ENAMETOOLONG, ENOMEM } = constants.errno;

const driver = new Hypervic();
driver.pools["external"]?.set("role", "db");
driver.pools["auto"]?.set("OSVersion", "7.6");

const refused = (errno: number): IoctlStep => ({ result: -errno, output: Buffer.alloc(0) });

function ioctl(command: number, argument: bigint, memory: Buffer): IoctlStep {
  const number = command - FIRST_REQUEST;
  if (number !== KVREAD && number !== KVWRITE && number !== TYPE) return refused(ENOTTY);
  const request: Area = { address: argument, length: REQUEST_BYTES };
  if (memory.length === 0) return { read: [request], write: [] };
  const word = (index: number): bigint => memory.readBigUInt64LE(index * 8);
  const key: Area = { address: word(1), length: Number(word(0)) };
  const value: Area = { address: word(3), length: Number(word(2)) };
  if (number === TYPE) {
    if (key.length < driver.type.length + 1) return refused(ENOMEM);
    if (memory.length === REQUEST_BYTES) return { read: [request, key], write: [key] };
    return { result: 0, output: terminated(Buffer.from(driver.type), key.length) };
  }
  for (const { length } of [key, value]) {
    if (length === 0) return refused(EINVAL);
    if (length > LARGEST) return refused(ENAMETOOLONG);
  }
  if (memory.length === REQUEST_BYTES) return { read: [request, key, value], write: [value] };
  const keyBytes = memory.subarray(REQUEST_BYTES, REQUEST_BYTES + key.length);
  const valueBytes = memory.subarray(REQUEST_BYTES + key.length);
  const name = keyBytes.toString("latin1").split("\0", 1)[0] as string;
  const end = valueBytes.indexOf(0);
  try {
    const left =
      number === KVREAD
        ? driver.read(name, value.length)
        : driver.write(name, valueBytes.subarray(0, end < 0 ? undefined : end), value.length);
    return { result: 0, output: terminated(left, value.length) };
  } catch (error) {
    if (error instanceof HostctlError) return refused(constants.errno[error.errno]);
    throw error;
  }
}

function terminated(bytes: Buffer, room: number): Buffer {
  const out = Buffer.alloc(room);
  bytes.copy(out, 0, 0, room);
  return out;
}

await new CuseServer("pvbus0", { open: () => 0, release: () => undefined, ioctl }).start();
process.send?.({ event: "ready" });
