import { PvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import { HostctlError } from "../../src/base/hostctl-error.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import { POOLS, type PoolInfo } from "./protocol/keys.js";
import type { HypervStore } from "./store.js";

/** Smallest value buffer of a read (OpenBSD sys/dev/pv/hypervic.c). */
const SMALLEST_READ = 1024;
/** Bytes that must be free before each name of a listing, also before the look for one more. */
const NAME_ROOM = 256;
/** Bytes of the value buffer that hostctl hands over on a write (its encoded values have at most 4095). */
const WRITE_BUFFER = 4096;
/** Longest name of a write. */
const LONGEST_NAME = 256;

/**
 * Hyper-V's pools as OpenBSD's kernel serves them to hostctl(8): the key is split at its last slash, Guest takes new names only,
 * Auto existing ones only, an empty name lists. Differences that are meant: the kernel cuts written values at 255
 * bytes in silence, here they are stored whole; and where a daemon computes the Auto pool no write to it can be stored,
 * so an existing name is refused with EINVAL. A record called Parameters in pool Guest has no native key: it
 * reads as missing and is refused on a write. Source: OpenBSD sys/dev/pv/hypervic.c.
 */
export class HypervHostctlStore implements HostctlStore {
  readonly #store: HypervStore;

  /** @param store the pools */
  constructor(store: HypervStore) {
    this.#store = store;
  }

  /** Reads a value, or the names of a pool joined by line ends. */
  async read(key: Uint8Array, valueLength: number, call: Call): Promise<Uint8Array> {
    const { pool, name } = split(key);
    if (name === "") return this.#names(pool, valueLength, call);
    if (valueLength < SMALLEST_READ) throw new HostctlError("ERANGE");
    const native = `${pool.name}/${name}`;
    // The kernel takes this as a record of pool Guest, where our keys cannot put one.
    if (native.toLowerCase() === "guest/parameters") throw new HostctlError("ENOENT");
    const value = await this.#store.read(native, call);
    if (value === undefined) throw new HostctlError("ENOENT");
    if (value.length >= valueLength) throw new HostctlError("ERANGE");
    return value;
  }

  /** Inserts into Guest, or updates Auto; the value stays in the buffer. */
  async write(key: Uint8Array, value: Uint8Array, call: Call): Promise<Uint8Array> {
    const { pool, name } = split(key);
    if (name === "") return this.#names(pool, Math.max(value.length + 1, WRITE_BUFFER), call);
    const native = `${pool.name}/${name}`;
    if (pool.name === "Auto") {
      if ((await this.#store.read(native, call)) === undefined) throw new HostctlError("ENOENT");
      await this.#store.write(native, value, call);
      return value;
    }
    if (pool.name !== "Guest") throw new HostctlError("EINVAL");
    if (Buffer.byteLength(name) > LONGEST_NAME) throw new HostctlError("ERANGE");
    if (!(await this.#store.insert(native, value, call))) throw new HostctlError("EEXIST");
    return value;
  }

  async #names(pool: PoolInfo, room: number, call: Call): Promise<Uint8Array> {
    const names: string[] = [];
    let left = room;
    const take = (bytes: number): void => {
      left -= bytes;
      if (left < NAME_ROOM) throw new HostctlError("ERANGE");
    };
    take(0);
    try {
      for await (const { key } of this.#store.list(`${pool.name}/`, call)) {
        const name = key.slice(pool.name.length + 1);
        names.push(name);
        take(Buffer.byteLength(name) + 1);
      }
    } catch (error) {
      // A pool whose file is not there yet has no entries, as the kernel's pools have at boot.
      if (!(PvbusError.is(error) && error.code === "ERR_UNAVAILABLE")) throw error;
    }
    return Buffer.from(names.join("\n"));
  }
}

function split(key: Uint8Array): { pool: PoolInfo; name: string } {
  const text = Buffer.from(key).toString("utf8");
  const slash = text.lastIndexOf("/");
  const wanted = text.slice(0, Math.max(slash, 0)).toLowerCase();
  const pool = POOLS.find((each) => each.name.toLowerCase() === wanted);
  if (slash < 0 || pool === undefined) throw new HostctlError("EINVAL");
  return { pool, name: text.slice(slash + 1) };
}
