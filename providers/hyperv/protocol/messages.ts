import { fieldEnd, HV_KVP_EXCHANGE_MAX_KEY_SIZE, HV_KVP_EXCHANGE_MAX_VALUE_SIZE } from "./record.js";

/*
 * Messages between the kernel's KVP driver and the daemon (Linux struct hv_kvp_msg, include/uapi/linux/hyperv.h; FreeBSD
 * sys/dev/hyperv/utilities/hv_kvp.h). All integers are little-endian. A reply is the request with its first four bytes
 * replaced by an error word and the fields that the request asked for filled in.
 *
 * | operation | body |
 * | --- | --- |
 * | GET 0, SET 1 | 4 value_type u32, 8 key_size u32, 12 value_size u32, 16 key[512], 528 value[2048] |
 * | DELETE 2 | 4 key_size u32, 8 key[512] |
 * | ENUMERATE 3 | 4 index u32, 8 value_type, 12 key_size, 16 value_size, 20 key[512], 532 value[2048] |
 * | GET_IP_INFO 4, SET_IP_INFO 5 | 4 adapter_id[256], 260 addr_family u8, 261 dhcp_enabled u8, 262 ip_addr[2048], 2310 sub_net[2048], 4358 gate_way[1024], 5382 dns_addr[2048] |
 * | REGISTER 4 or 100 | 4 version[512] |
 */

/** Numbers of the operations, at offset 0 of a request. */
export const KvpOperation = {
  get: 0,
  set: 1,
  delete: 2,
  enumerate: 3,
  getIpInfo: 4,
  setIpInfo: 5,
  /** KVP_OP_REGISTER: FreeBSD's registration; during the hand-shake only. */
  register: 4,
  /** KVP_OP_REGISTER1: Linux's registration. */
  register1: 100,
} as const;

/** What differs between the drivers. */
export interface KvpLayout {
  /** Bytes of every message. FreeBSD packs the last two padding bytes away. */
  readonly messageBytes: number;
  /** Operation that registers the daemon. */
  readonly registerOperation: number;
  /** Whether the driver answers the registration with a message that holds its version. */
  readonly answersRegistration: boolean;
}

/** The layout of Linux, `/dev/vmbus/hv_kvp`. */
export const LINUX_KVP: KvpLayout = {
  messageBytes: 7432,
  registerOperation: KvpOperation.register1,
  answersRegistration: true,
};

/** The layout of FreeBSD, `/dev/hv_kvp_dev`. */
export const FREEBSD_KVP: KvpLayout = {
  messageBytes: 7430,
  registerOperation: KvpOperation.register,
  answersRegistration: false,
};

/** IP settings of one adapter; lists are separated by `;`. */
export interface KvpIpInfo {
  /** In GET_IP_INFO the MAC address, in SET_IP_INFO the device's GUID. At most 255 bytes. */
  readonly adapterId: string;
  /** 0 none, 1 IPv4, 2 IPv6, 3 both. */
  readonly addressFamily: number;
  /** 1 when IPv4 comes from DHCP. */
  readonly dhcpEnabled: number;
  /** Addresses of both families; at most 2047 bytes. */
  readonly ipAddresses: string;
  /** Masks or prefix lengths, one for each address; at most 2047 bytes. */
  readonly subnets: string;
  /** At most 1023 bytes. */
  readonly gateways: string;
  /** At most 2047 bytes. */
  readonly dnsServers: string;
}

/** No adapter, no settings. */
export const EMPTY_IP_INFO: KvpIpInfo = {
  adapterId: "",
  addressFamily: 0,
  dhcpEnabled: 0,
  ipAddresses: "",
  subnets: "",
  gateways: "",
  dnsServers: "",
};

interface OfKey {
  readonly pool: number;
  readonly key: Uint8Array;
}

/** A request of the host as the kernel hands it over; byte fields are copies. */
export type KvpRequest =
  /** With the bytes of the value that are wanted; both drivers say 0. */
  | (OfKey & { readonly operation: "get"; readonly valueSize: number })
  /** The value is undefined where the driver delivered none (a type that it does not know). */
  | (OfKey & { readonly operation: "set"; readonly value: Uint8Array | undefined })
  | (OfKey & { readonly operation: "delete" })
  | { readonly operation: "enumerate"; readonly pool: number; readonly index: number }
  | { readonly operation: "getIpInfo" | "setIpInfo"; readonly info: KvpIpInfo }
  /** Sizes beyond the fields, or strings without an end. */
  | { readonly operation: "malformed"; readonly reason: string }
  | { readonly operation: "unknown"; readonly number: number };

interface Field {
  readonly at: number;
  readonly size: number;
}

const POOL_AT = 1;
const ADAPTER: Field = { at: 4, size: 256 };
const FAMILY_AT = 260;
const DHCP_AT = 261;
const IP_LISTS = {
  ipAddresses: { at: 262, size: 2048 },
  subnets: { at: 2310, size: 2048 },
  gateways: { at: 4358, size: 1024 },
  dnsServers: { at: 5382, size: 2048 },
} as const;
const VERSION: Field = { at: 4, size: 512 };
const EXCHANGE = { keySizeAt: 8, valueSizeAt: 12, key: keyAt(16), value: valueAt(528) };
const DELETE = { keySizeAt: 4, key: keyAt(8) };
const ENUMERATE = { indexAt: 4, key: keyAt(20), value: valueAt(532) };

function keyAt(at: number): Field {
  return { at, size: HV_KVP_EXCHANGE_MAX_KEY_SIZE };
}

function valueAt(at: number): Field {
  return { at, size: HV_KVP_EXCHANGE_MAX_VALUE_SIZE };
}

/** Returns the bytes of a field before its first NUL, a view. */
function bytesOf(message: Buffer, { at, size }: Field): Buffer {
  return message.subarray(at, fieldEnd(message, at, size));
}

function textOf(message: Buffer, field: Field): string {
  return bytesOf(message, field).toString("utf8");
}

function putBytes(message: Buffer, { at, size }: Field, bytes: Uint8Array): void {
  if (bytes.length >= size) throw new RangeError(`${bytes.length} bytes and a NUL do not fit ${size}`);
  message.set(bytes, at);
}

function putText(message: Buffer, field: Field, text: string): void {
  const bytes = Buffer.from(text, "utf8");
  putBytes(message, field, bytes);
  message.fill(0, field.at + bytes.length, field.at + field.size);
}

/** Makes the message that registers the daemon. */
export function encodeRegistration(layout: KvpLayout): Buffer {
  const message = Buffer.alloc(layout.messageBytes);
  message[0] = layout.registerOperation;
  return message;
}

/** Returns the version text of the driver's answer to the registration; undefined when the message is no such answer. */
export function decodeRegistrationReply(message: Buffer, layout: KvpLayout): string | undefined {
  if (message.length < layout.messageBytes || message[0] !== layout.registerOperation) return undefined;
  return textOf(message, VERSION);
}

/**
 * Decodes a request; any bytes decode. A key is the text before its NUL whatever its size says, so that a size that
 * leaves the NUL out (FreeBSD's driver counts non-ASCII text short) means the same key.
 */
export function decodeRequest(message: Buffer, layout: KvpLayout): KvpRequest {
  const malformed = (reason: string): KvpRequest => ({ operation: "malformed", reason });
  if (message.length < layout.messageBytes)
    return malformed(`${message.length} of ${layout.messageBytes} bytes`);
  const number = message[0] as number;
  const pool = message[POOL_AT] as number;
  switch (number) {
    case KvpOperation.get:
    case KvpOperation.set: {
      const key = keyOf(message, EXCHANGE);
      if (typeof key === "string") return malformed(key);
      const valueSize = message.readUInt32LE(EXCHANGE.valueSizeAt);
      if (valueSize > HV_KVP_EXCHANGE_MAX_VALUE_SIZE) return malformed(`value_size ${valueSize}`);
      if (number === KvpOperation.get) return { operation: "get", pool, key, valueSize };
      if (valueSize === 0) return { operation: "set", pool, key, value: undefined };
      const value = bytesOf(message, EXCHANGE.value);
      if (value.length === HV_KVP_EXCHANGE_MAX_VALUE_SIZE) return malformed("value without an end");
      return { operation: "set", pool, key, value: Uint8Array.from(value) };
    }
    case KvpOperation.delete: {
      const key = keyOf(message, DELETE);
      return typeof key === "string" ? malformed(key) : { operation: "delete", pool, key };
    }
    case KvpOperation.enumerate:
      return { operation: "enumerate", pool, index: message.readUInt32LE(ENUMERATE.indexAt) };
    case KvpOperation.getIpInfo:
      return { operation: "getIpInfo", info: decodeIpInfo(message) };
    case KvpOperation.setIpInfo:
      return { operation: "setIpInfo", info: decodeIpInfo(message) };
    default:
      return { operation: "unknown", number };
  }
}

/** Returns the key's bytes, or what is wrong with them. */
function keyOf(message: Buffer, { keySizeAt, key: field }: typeof DELETE): Uint8Array | string {
  const size = message.readUInt32LE(keySizeAt);
  if (size === 0 || size > field.size) return `key_size ${size}`;
  const key = bytesOf(message, field);
  return key.length === field.size ? "key without an end" : Buffer.from(key);
}

/** Makes a request as the kernel hands it over, for simulators and tests. @throws RangeError for what does not fit */
export function encodeRequest(
  request: Exclude<KvpRequest, { operation: "malformed" }>,
  layout: KvpLayout,
): Buffer {
  const message = Buffer.alloc(layout.messageBytes);
  message[0] = request.operation === "unknown" ? request.number : KvpOperation[request.operation];
  if ("pool" in request) message[POOL_AT] = request.pool;
  if ("key" in request) {
    const { keySizeAt, key } = request.operation === "delete" ? DELETE : EXCHANGE;
    putBytes(message, key, request.key);
    message.writeUInt32LE(request.key.length + 1, keySizeAt);
  }
  if (request.operation === "get") message.writeUInt32LE(request.valueSize, EXCHANGE.valueSizeAt);
  else if (request.operation === "enumerate") message.writeUInt32LE(request.index, ENUMERATE.indexAt);
  else if (request.operation === "set" && request.value !== undefined) {
    putBytes(message, EXCHANGE.value, request.value);
    message.writeUInt32LE(request.value.length + 1, EXCHANGE.valueSizeAt);
  }
  if ("info" in request) {
    putText(message, ADAPTER, request.info.adapterId);
    putIpSettings(message, request.info);
  }
  return message;
}

/** Makes a request the reply to itself: in place, since a listing of a large pool is tens of thousands of messages. */
export function turnIntoReply(message: Buffer, status: number): void {
  message.writeUInt32LE(status >>> 0, 0);
}

/** Makes an ENUMERATE the reply with a record. @throws RangeError for a part that does not fit with its NUL */
export function turnIntoEnumerateReply(message: Buffer, key: Uint8Array, value: Uint8Array): void {
  turnIntoReply(message, 0);
  message.fill(0, ENUMERATE.key.at);
  putBytes(message, ENUMERATE.key, key);
  putBytes(message, ENUMERATE.value, value);
}

/** Makes a GET the reply with a value: as many bytes of it as the request asks for. */
export function turnIntoGetReply(message: Buffer, value: Uint8Array, valueSize: number): void {
  turnIntoReply(message, 0);
  const { at } = EXCHANGE.value;
  message.fill(0, at, at + valueSize);
  message.set(value.subarray(0, valueSize), at);
}

/** Makes a GET_IP_INFO the reply with settings; the adapter's id stays as it came. @throws RangeError for a list longer than its field */
export function turnIntoIpReply(message: Buffer, info: KvpIpInfo): void {
  turnIntoReply(message, 0);
  putIpSettings(message, info);
}

/** Returns the error word of a reply. */
export function replyStatus(reply: Buffer): number {
  return reply.readUInt32LE(0);
}

/** Returns the record of a successful reply to ENUMERATE: the bytes before each NUL, as the driver takes them. */
export function decodeEnumerateReply(reply: Buffer): { key: Uint8Array; value: Uint8Array } {
  return { key: bytesOf(reply, ENUMERATE.key), value: bytesOf(reply, ENUMERATE.value) };
}

/** Returns the IP settings of a request or of a reply to GET_IP_INFO. */
export function decodeIpInfo(message: Buffer): KvpIpInfo {
  return {
    adapterId: textOf(message, ADAPTER),
    addressFamily: message[FAMILY_AT] as number,
    dhcpEnabled: message[DHCP_AT] as number,
    ipAddresses: textOf(message, IP_LISTS.ipAddresses),
    subnets: textOf(message, IP_LISTS.subnets),
    gateways: textOf(message, IP_LISTS.gateways),
    dnsServers: textOf(message, IP_LISTS.dnsServers),
  };
}

function putIpSettings(message: Buffer, info: KvpIpInfo): void {
  message[FAMILY_AT] = info.addressFamily;
  message[DHCP_AT] = info.dhcpEnabled;
  for (const name of ["ipAddresses", "subnets", "gateways", "dnsServers"] as const)
    putText(message, IP_LISTS[name], info[name]);
}
