import { openLibc } from "../ffi/open-libc.js";

export interface InterfaceAddress {
  /** Name of the interface; on Linux the address's label, `eth0:1`. */
  readonly name: string;
  readonly family: 4 | 6;
  /** Text form of inet_ntop(3), without a zone. */
  readonly address: string;
  readonly prefix: number;
  /** Whether it is an interface to this machine itself. */
  readonly loopback: boolean;
}

/* struct ifaddrs with 64-bit pointers (ifaddrs.h of Linux and the BSDs). */
const NODE_BYTES = 48;
const NEXT = 0;
const NAME = 8;
const FLAGS = 16;
const ADDRESS = 24;
const NETMASK = 32;
const IFF_LOOPBACK = 0x8;
const LONGEST_NAME = 64;
const SOCKADDR_BYTES = 28;
const AF_INET6: Partial<Record<NodeJS.Platform, number>> = {
  linux: 10,
  freebsd: 28,
  openbsd: 24,
  darwin: 30,
};
/* struct sockaddr_in and _in6: where the address is. */
const FAMILIES = [
  { family: 4, number: 2, at: 4, bytes: 4 },
  { family: 6, number: AF_INET6[process.platform], at: 8, bytes: 16 },
] as const;
const TEXT_BYTES = 46;

/**
 * Returns the addresses of all interfaces, those that are down included, in the order of getifaddrs(3): by family on Linux.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error
 */
export function interfaceAddresses(): InterfaceAddress[] {
  const libc = openLibc();
  const head = Buffer.alloc(8);
  libc.must("int getifaddrs(void *)", head);
  const list = head.readBigUInt64LE(0);
  const memcpy = libc.function("void memcpy(void *, uintptr_t, size_t)");
  const strnlen = libc.function("size_t strnlen(uintptr_t, size_t)");
  const inetNtop = libc.function("void inet_ntop(int, const void *, void *, uint32_t)");
  const copy = (from: bigint, bytes: number): Buffer => {
    const into = Buffer.alloc(bytes);
    memcpy(into, from, bytes);
    return into;
  };
  try {
    const all: InterfaceAddress[] = [];
    for (let at = list; at !== 0n; ) {
      const node = copy(at, NODE_BYTES);
      at = node.readBigUInt64LE(NEXT);
      const address = node.readBigUInt64LE(ADDRESS);
      if (address === 0n) continue;
      const sockaddr = copy(address, 2);
      // The BSDs have a length in front of an 8-bit family.
      const number = process.platform === "linux" ? sockaddr.readUInt16LE(0) : sockaddr.readUInt8(1);
      const found = FAMILIES.find((each) => each.number === number);
      if (found === undefined) continue;
      const { family, at: offset, bytes } = found;
      const binary = copy(address, SOCKADDR_BYTES).subarray(offset, offset + bytes);
      const text = Buffer.alloc(TEXT_BYTES);
      inetNtop(number, binary, text, TEXT_BYTES);
      const mask = node.readBigUInt64LE(NETMASK);
      const name = node.readBigUInt64LE(NAME);
      all.push({
        name: copy(name, strnlen(name, LONGEST_NAME)).toString("utf8"),
        family,
        address: text.toString("latin1", 0, text.indexOf(0)),
        prefix: mask === 0n ? bytes * 8 : bits(copy(mask, SOCKADDR_BYTES).subarray(offset, offset + bytes)),
        loopback: (node.readUInt32LE(FLAGS) & IFF_LOOPBACK) !== 0,
      });
    }
    return all;
  } finally {
    libc.function("void freeifaddrs(uintptr_t)")(list);
  }
}

function bits(mask: Buffer): number {
  let count = 0;
  for (const byte of mask) for (let bit = byte; bit !== 0; bit &= bit - 1) count++;
  return count;
}
