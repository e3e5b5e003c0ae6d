import { pvbusError } from "../../../src/base/errors.js";

/*
 * The driver's requests (VirtualBox include/VBox/VBoxGuest.h, Linux include/uapi/linux/vboxguest.h): one buffer each, which begins
 * with a header. Little-endian.
 */

/** Size of a structure's pointers, in bits; those of the process that calls. */
export type PointerBits = 32 | 64;
/** Systems whose numbers differ. */
export type DriverSystem = "posix" | "windows";
/** The driver's requests. */
export type DriverRequest = "version" | "connect" | "disconnect" | "call";

const HEADER_BYTES = 24;
const HEADER_VERSION = 0x0001_0001;
const INTERFACE_VERSION = 0x0001_0000;
const RC_AT = 12;
const BODY_AT = HEADER_BYTES;
/** Location of a service: an existing one of this host (VMMDevHGCMLoc_LocalHost_Existing). */
const LOCAL_EXISTING = 2;
const SERVICE_BYTES = 128;
const CONNECT_BYTES = 156;
const CLIENT_BYTES = 28;
const VERSION_BYTES = 44;
const PARAMETERS_AT = 40;
const MAX_PARAMETERS = 32;
/** No timeout. */
export const FOREVER_MS = 0xffff_ffff;
/** The service of guest properties. */
export const PROPERTY_SERVICE = "VBoxGuestPropSvc";

const PARAMETER = { u32: 1, u64: 2, inout: 4, in: 5, out: 6 } as const;

/** A number that goes to the service and back. */
export interface NumberParameter {
  readonly kind: "u32" | "u64";
  readonly value: bigint;
}

/** Memory that the service reads, fills, or both. */
export interface PointerParameter {
  readonly kind: "in" | "out" | "inout";
  readonly size: number;
  readonly address: bigint;
}

/** One parameter of a call. */
export type CallParameter = NumberParameter | PointerParameter;

/** A call of a service's function. */
export interface ServiceCall {
  readonly client: number;
  readonly function: number;
  readonly timeoutMs: number;
  readonly parameters: readonly CallParameter[];
}

const NUMBERS: Readonly<Record<DriverRequest, number>> = { version: 0, connect: 4, disconnect: 5, call: 7 };
/** Behind CTL_CODE(FILE_DEVICE_UNKNOWN, 2048 + n, METHOD_BUFFERED, FILE_WRITE_ACCESS). */
const WINDOWS_BASE = 0x22_a000;
const CALL_32 = 6;

/** Returns the number of a request. @param bytes of its buffer, which POSIX' numbers hold */
export function requestNumber(
  request: DriverRequest,
  bytes: number,
  bits: PointerBits = 64,
  system: DriverSystem = "posix",
): number {
  const number = request === "call" && bits === 32 ? CALL_32 : NUMBERS[request];
  if (system === "windows") return WINDOWS_BASE + 4 * number;
  // _IOC(_IOC_READ | _IOC_WRITE, 'V', number, bytes).
  return 0xc000_5600 + bytes * 0x1_0000 + number;
}

function message(inBytes: number, outBytes: number): Buffer {
  const bytes = Buffer.alloc(Math.max(inBytes, outBytes));
  bytes.writeUInt32LE(inBytes, 0);
  bytes.writeUInt32LE(HEADER_VERSION, 4);
  bytes.writeUInt32LE(outBytes, 16);
  return bytes;
}

/** Asks for the interface's version. */
export function encodeVersion(): Buffer {
  const bytes = message(PARAMETERS_AT, VERSION_BYTES);
  bytes.writeUInt32LE(INTERFACE_VERSION, BODY_AT);
  bytes.writeUInt32LE(INTERFACE_VERSION, BODY_AT + 4);
  return bytes;
}

/** Connects to a service of the host. */
export function encodeConnect(service: string = PROPERTY_SERVICE): Buffer {
  const bytes = message(CONNECT_BYTES, CLIENT_BYTES);
  bytes.writeUInt32LE(LOCAL_EXISTING, BODY_AT);
  bytes.write(service, BODY_AT + 4, SERVICE_BYTES - 1, "latin1");
  return bytes;
}

/** Ends a client, and with it what it waits for. */
export function encodeDisconnect(client: number): Buffer {
  const bytes = message(CLIENT_BYTES, HEADER_BYTES);
  bytes.writeUInt32LE(client, BODY_AT);
  return bytes;
}

/** Bytes of a call with so many parameters. */
export function callBytes(parameters: number, bits: PointerBits = 64): number {
  return PARAMETERS_AT + parameters * parameterBytes(bits);
}

const parameterBytes = (bits: PointerBits): number => (bits === 64 ? 16 : 12);

/** Calls a function of a service. @throws RangeError beyond 32 parameters */
export function encodeCall(call: ServiceCall, bits: PointerBits = 64): Buffer {
  const { parameters } = call;
  if (parameters.length > MAX_PARAMETERS) throw new RangeError("a call has 32 parameters at most");
  const size = callBytes(parameters.length, bits);
  const bytes = message(size, size);
  bytes.writeUInt32LE(call.client, BODY_AT);
  bytes.writeUInt32LE(call.function, BODY_AT + 4);
  bytes.writeUInt32LE(call.timeoutMs, BODY_AT + 8);
  bytes.writeUInt16LE(parameters.length, BODY_AT + 14);
  for (const [index, parameter] of parameters.entries()) {
    const at = PARAMETERS_AT + index * parameterBytes(bits);
    bytes.writeUInt32LE(PARAMETER[parameter.kind], at);
    if ("value" in parameter) {
      if (parameter.kind === "u32") bytes.writeUInt32LE(Number(parameter.value), at + 4);
      else bytes.writeBigUInt64LE(parameter.value, at + 4);
    } else {
      bytes.writeUInt32LE(parameter.size, at + 4);
      if (bits === 64) bytes.writeBigUInt64LE(parameter.address, at + 8);
      else bytes.writeUInt32LE(Number(parameter.address), at + 8);
    }
  }
  return bytes;
}

/** Returns what a delivered request came to: a status of VirtualBox, negative where it failed. */
export function decodeStatus(bytes: Buffer): number {
  checkLength(bytes, HEADER_BYTES);
  return bytes.readInt32LE(RC_AT);
}

/** Puts a status into a request's header. */
export function writeStatus(bytes: Buffer, status: number): void {
  bytes.writeInt32LE(status, RC_AT);
}

/** Returns the client of an answer to CONNECT. @throws PvbusError `ERR_PROTOCOL` for 0, which is none */
export function decodeClient(bytes: Buffer): number {
  checkLength(bytes, CLIENT_BYTES);
  const client = bytes.readUInt32LE(BODY_AT);
  if (client === 0) throw pvbusError("ERR_PROTOCOL", "the driver gave the client 0, which is none");
  return client;
}

/** Returns the number in a parameter of an answered call. */
export function decodeNumber(bytes: Buffer, index: number, bits: PointerBits = 64): bigint {
  const at = PARAMETERS_AT + index * parameterBytes(bits);
  checkLength(bytes, at + parameterBytes(bits));
  const type = bytes.readUInt32LE(at);
  if (type === PARAMETER.u64) return bytes.readBigUInt64LE(at + 4);
  if (type === PARAMETER.u32) return BigInt(bytes.readUInt32LE(at + 4));
  throw pvbusError("ERR_PROTOCOL", `the driver gave a parameter of type ${type} in place of a number`);
}

/** A request as the driver's side reads it. */
export type DecodedRequest =
  | { readonly request: "version"; readonly wanted: number }
  | { readonly request: "connect"; readonly location: number; readonly service: string }
  | { readonly request: "disconnect"; readonly client: number }
  | ({ readonly request: "call"; readonly bits: PointerBits } & ServiceCall);

/**
 * Reads a request as the driver does, for simulators.
 * @returns the error that the driver gives for a malformed one, by its name
 */
export function decodeRequest(number: number, bytes: Buffer): DecodedRequest | string {
  if (bytes.length < HEADER_BYTES) return "EINVAL";
  const [size, outSize] = [bytes.readUInt32LE(0), bytes.readUInt32LE(16)];
  const isSane = bytes.readUInt32LE(4) === HEADER_VERSION && bytes.readUInt32LE(8) === 0;
  if (!isSane || size < HEADER_BYTES || size > bytes.length || outSize > bytes.length) return "EINVAL";
  const inNumber = Math.floor(number / 0x1_0000) % 0x4000;
  if (inNumber !== 0 && inNumber !== Math.max(size, outSize)) return "EINVAL";
  switch (number & 0xff) {
    case NUMBERS.version:
      return size < PARAMETERS_AT ? "EINVAL" : { request: "version", wanted: bytes.readUInt32LE(BODY_AT) };
    case NUMBERS.connect: {
      if (size !== CONNECT_BYTES) return "EINVAL";
      const name = bytes.subarray(BODY_AT + 4, CONNECT_BYTES);
      const end = name.indexOf(0);
      const service = name.subarray(0, end < 0 ? name.length : end).toString("latin1");
      return { request: "connect", location: bytes.readUInt32LE(BODY_AT), service };
    }
    case NUMBERS.disconnect:
      return size === CLIENT_BYTES
        ? { request: "disconnect", client: bytes.readUInt32LE(BODY_AT) }
        : "EINVAL";
    case NUMBERS.call:
    case CALL_32:
      return decodeCall(bytes, size, (number & 0xff) === CALL_32 ? 32 : 64);
    default:
      return "ENOTTY";
  }
}

function decodeCall(bytes: Buffer, size: number, bits: PointerBits): DecodedRequest | string {
  if (size < PARAMETERS_AT) return "EINVAL";
  const count = bytes.readUInt16LE(BODY_AT + 14);
  if (count > MAX_PARAMETERS) return "E2BIG";
  if (size < callBytes(count, bits)) return "EINVAL";
  const parameters: CallParameter[] = [];
  for (let at = PARAMETERS_AT; parameters.length < count; at += parameterBytes(bits)) {
    const type = bytes.readUInt32LE(at);
    const kind = (Object.keys(PARAMETER) as (keyof typeof PARAMETER)[]).find((k) => PARAMETER[k] === type);
    if (kind === undefined) return "EINVAL";
    if (kind === "u32") parameters.push({ kind, value: BigInt(bytes.readUInt32LE(at + 4)) });
    else if (kind === "u64") parameters.push({ kind, value: bytes.readBigUInt64LE(at + 4) });
    else {
      const address = bits === 64 ? bytes.readBigUInt64LE(at + 8) : BigInt(bytes.readUInt32LE(at + 8));
      parameters.push({ kind, size: bytes.readUInt32LE(at + 4), address });
    }
  }
  const [client, fn] = [bytes.readUInt32LE(BODY_AT), bytes.readUInt32LE(BODY_AT + 4)];
  return {
    request: "call",
    bits,
    client,
    function: fn,
    timeoutMs: bytes.readUInt32LE(BODY_AT + 8),
    parameters,
  };
}

/** Writes what a driver answers with into a request, in place. */
export function writeClient(bytes: Buffer, client: number): void {
  bytes.writeUInt32LE(client, BODY_AT);
}

/** Writes a number into a parameter, in place. */
export function writeNumber(bytes: Buffer, index: number, value: bigint, bits: PointerBits = 64): void {
  const at = PARAMETERS_AT + index * parameterBytes(bits);
  if (bytes.readUInt32LE(at) === PARAMETER.u64) bytes.writeBigUInt64LE(value, at + 4);
  else bytes.writeUInt32LE(Number(value), at + 4);
}

/** Writes the answer to a request for the version. */
export function writeVersion(bytes: Buffer, wanted: number): void {
  const isKnown = wanted >>> 16 === INTERFACE_VERSION >>> 16;
  bytes.fill(0, BODY_AT, VERSION_BYTES);
  bytes.writeUInt32LE(isKnown ? INTERFACE_VERSION : 0xffff_ffff, BODY_AT);
  bytes.writeUInt32LE(INTERFACE_VERSION, BODY_AT + 4);
  if (!isKnown) writeStatus(bytes, -11);
}

function checkLength(bytes: Buffer, least: number): void {
  if (bytes.length < least)
    throw pvbusError("ERR_PROTOCOL", `the driver's answer has ${bytes.length} bytes, ${least} are needed`);
}
