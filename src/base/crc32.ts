import type * as Zlib from "node:zlib";

let zlib: typeof Zlib | undefined;

/**
 * Returns the CRC-32 of zlib. Node's zlib is loaded on first use, since its streams come with it: they cost a start that sums nothing
 * some milliseconds.
 * @param seed the checksum of what stands before
 */
export function crc32(data: string | Uint8Array, seed = 0): number {
  zlib ??= process.getBuiltinModule("node:zlib");
  return zlib.crc32(data, seed);
}
