import { type PvbusError, pvbusError } from "../../../src/base/errors.js";
import { HV_KVP_EXCHANGE_MAX_KEY_SIZE } from "./record.js";

/** Names of the pools as hyperv(4) has them. */
export type PoolName = "Auto" | "Guest" | "External" | "Guest/Parameters";

/** One pool. */
export interface PoolInfo {
  /** Proper name, also the prefix of its native keys; the daemon alone has AutoInternal, which nobody uses. */
  readonly name: PoolName | "AutoInternal";
  /** Number in the KVP protocol and in the file name `.kvp_pool_<n>` (Linux include/uapi/linux/hyperv.h). */
  readonly number: 0 | 1 | 2 | 3 | 4;
  /** Whether a guest program may write it where pools are files; the daemon computes Auto without reading its file. */
  readonly guestWritable: boolean;
}

/** The pools in the order in which they are listed. */
export const POOLS: readonly PoolInfo[] = [
  { name: "External", number: 0, guestWritable: false },
  { name: "Guest", number: 1, guestWritable: true },
  { name: "Auto", number: 2, guestWritable: false },
  { name: "Guest/Parameters", number: 3, guestWritable: false },
];

const BY_LENGTH = [...POOLS].sort((a, b) => b.name.length - a.name.length);
const POOL_LIST = POOLS.map(({ name }) => `${name}/`).join(", ");

/** A native key taken apart. */
export interface PoolKey {
  /** The pool it names. */
  readonly pool: PoolInfo;
  /** All the rest, slashes included. */
  readonly key: string;
}

/** Returns the pool and the rest of a key or prefix: the longest pool name that fits wins, without regard to case. */
function splitPool(text: string): { pool: PoolInfo; rest: string | undefined } | undefined {
  const lower = text.toLowerCase();
  for (const pool of BY_LENGTH) {
    const name = pool.name.toLowerCase();
    if (lower === name) return { pool, rest: undefined };
    if (lower.startsWith(`${name}/`)) return { pool, rest: text.slice(name.length + 1) };
  }
  return undefined;
}

/**
 * Takes a native key `Pool/Key` apart.
 * @param longestBytes what a key in the store can have at most, whoever wrote it
 * @throws PvbusError `ERR_KEY_INVALID` without a known pool, without a key, or with a lone surrogate;
 * `ERR_KEY_TOO_LONG` beyond what a record field can hold
 */
export function parseKey(native: string, longestBytes = HV_KVP_EXCHANGE_MAX_KEY_SIZE): PoolKey {
  const split = splitPool(native);
  if (split === undefined)
    throw invalid(`the key names no pool of Hyper-V; begin it with one of: ${POOL_LIST}`);
  const { pool, rest } = split;
  if (rest === undefined || rest === "")
    throw invalid(`the key names pool ${pool.name} but no record in it; write ${pool.name}/NAME`);
  if (rest.includes("\0")) throw invalid("the key holds a NUL character, which would end it");
  if (!rest.isWellFormed()) throw invalid("the key holds a lone surrogate, which has no encoding; repair it");
  const bytes = Buffer.byteLength(rest);
  if (bytes > longestBytes)
    throw pvbusError("ERR_KEY_TOO_LONG", `the key has ${bytes} bytes; no key there has over ${longestBytes}`);
  return { pool, key: rest };
}

/**
 * Returns the pools that a prefix covers and the beginning that their keys must have. `Guest` and `Guest/` are the
 * pool Guest alone; the empty prefix covers all pools.
 * @throws PvbusError `ERR_KEY_INVALID` when it names no pool
 */
export function parsePrefix(prefix: string): { pools: readonly PoolInfo[]; keyPrefix: string } {
  if (prefix === "") return { pools: POOLS, keyPrefix: "" };
  const split = splitPool(prefix);
  if (split === undefined) throw invalid(`the prefix names no pool of Hyper-V; the pools are: ${POOL_LIST}`);
  return { pools: [split.pool], keyPrefix: split.rest ?? "" };
}

/** Returns the full native key of a record. */
export function nativeKey(pool: PoolInfo, key: string): string {
  return `${pool.name}/${key}`;
}

function invalid(message: string): PvbusError {
  return pvbusError("ERR_KEY_INVALID", message);
}
