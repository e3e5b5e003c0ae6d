import { HostctlError } from "../../src/base/hostctl-error.js";
import type { SimulatedDriver } from "./pvbus-kernel.js";

/** OpenBSD's hypervic(4) with its pools (sys/dev/pv/hypervic.c, hv_kvop), text as its bytes in Latin-1. */
export class Hypervic implements SimulatedDriver {
  readonly type = "Hyper-V";
  readonly pools: Record<string, Map<string, string>> = {
    external: new Map(),
    guest: new Map(),
    auto: new Map([["OSName", "OpenBSD"]]),
    "guest/parameters": new Map(),
  };

  read(key: string, room: number): Buffer {
    const { pool, name } = this.#split(key);
    if (name === "") return this.#names(pool, room);
    if (room < 1024) throw new HostctlError("ERANGE");
    const value = pool.get(name);
    if (value === undefined) throw new HostctlError("ENOENT");
    if (value.length >= room) throw new HostctlError("ERANGE");
    return Buffer.from(value, "latin1");
  }

  write(key: string, value: Buffer, room: number): Buffer {
    const { pool, name } = this.#split(key);
    if (name === "") return this.#names(pool, room);
    if (pool === this.pools["guest"]) {
      if (pool.has(name)) throw new HostctlError("EEXIST");
    } else if (pool === this.pools["auto"]) {
      if (!pool.has(name)) throw new HostctlError("ENOENT");
    } else throw new HostctlError("EINVAL");
    pool.set(name, value.toString("latin1").slice(0, 255));
    return value;
  }

  #names(pool: Map<string, string>, room: number): Buffer {
    let left = room;
    for (const name of pool.keys()) {
      if (left < 256) throw new HostctlError("ERANGE");
      left -= name.length + 1;
    }
    if (left < 256) throw new HostctlError("ERANGE");
    return Buffer.from([...pool.keys()].join("\n"), "latin1");
  }

  #split(key: string): { pool: Map<string, string>; name: string } {
    const slash = key.lastIndexOf("/");
    const pool = this.pools[key.slice(0, Math.max(slash, 0)).toLowerCase()];
    if (slash < 0 || pool === undefined) throw new HostctlError("EINVAL");
    return { pool, name: key.slice(slash + 1) };
  }
}
