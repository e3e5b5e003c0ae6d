import { type PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import type { Logger } from "../../../src/base/host/host.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import {
  openRegistryKey,
  REG_SZ,
  type RegistryKey,
  type RegistryOpening,
  type RegistryValue,
} from "../../../src/native/windows/registry.js";
import type { PoolInfo } from "../protocol/keys.js";
import { checkPair, REGISTRY_LIMITS } from "../protocol/limits.js";
import { hasCode, isMissing, type Pool, type PoolPair, type PoolTransport } from "./pool.js";

/** Opens a registry key; stands in for the registry in tests. */
export type OpenRegistryKey = (path: string, options: RegistryOpening) => RegistryKey;

/** Where the pools are, below HKEY_LOCAL_MACHINE (MS-KVP). */
const ROOT = "SOFTWARE\\Microsoft\\Virtual Machine";
/** Bytes of the longest name of a registry value in UTF-8. */
const LONGEST_NAME_BYTES = 16_383 * 3;
const REG_EXPAND_SZ = 2;
const REG_DWORD = 4;
const REG_QWORD = 11;

interface RegistryParts {
  /** Make a missing key on the first write. */
  readonly create: boolean;
  readonly open: OpenRegistryKey;
  readonly logger: Logger;
}

/** The pools as Windows keeps them: registry keys whose values are the pairs. Names do not differ by case alone. */
export function registryPools(
  logger: Logger,
  { create }: Pick<RegistryParts, "create">,
  open: OpenRegistryKey = openRegistryKey,
): PoolTransport {
  return {
    location: `HKLM\\${ROOT}`,
    longestKeyBytes: LONGEST_NAME_BYTES,
    separator: "/",
    pool: (info) => new RegistryPool(info, { open, create, logger }),
    check: (key, value) => checkPair(key, value, REGISTRY_LIMITS),
    notify: (pools, ring) => {
      const ends: (() => void)[] = [];
      const end = (): void => {
        for (const each of ends) each();
      };
      try {
        for (const pool of pools) ends.push((pool as RegistryPool).notify(ring));
      } catch (error) {
        end();
        throw error;
      }
      return end;
    },
  };
}

class RegistryPool implements Pool {
  readonly info: PoolInfo;
  readonly #path: string;
  readonly #parts: RegistryParts;
  readonly #keys = new Map<"read" | "write", RegistryKey>();

  constructor(info: PoolInfo, parts: RegistryParts) {
    this.info = info;
    this.#path = `${ROOT}\\${info.name.replace("/", "\\")}`;
    this.#parts = parts;
  }

  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    const value = this.#do("read", call, (registry) => registry.query(key));
    return value && this.#bytesOf(value);
  }

  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    this.#do("write", call, (registry) => registry.set(key, REG_SZ, registryText(value)));
  }

  /** The registry has no such step: between the look and the write another program may be quicker. */
  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    return this.#do("write", call, (registry) => {
      if (registry.query(key) !== undefined) return false;
      registry.set(key, REG_SZ, registryText(value));
      return true;
    });
  }

  async delete(key: string, call: Call): Promise<boolean> {
    return this.#do("write", call, (registry) => registry.delete(key));
  }

  async *list(prefix: string, call: Call): AsyncGenerator<PoolPair, void, undefined> {
    yield* (await this.snapshot(prefix, call)).values();
  }

  async snapshot(prefix: string, call: Call): Promise<ReadonlyMap<string, PoolPair>> {
    const pairs = new Map<string, PoolPair>();
    for (const value of this.#do("read", call, (registry) => registry.values())) {
      const key = value.name;
      if (key === "" || !key.startsWith(prefix)) continue;
      try {
        pairs.set(key, { key, value: this.#bytesOf(value) });
      } catch (error) {
        // Such a value does not reach the host either.
        this.#parts.logger.warn("value left out of the listing", { pool: this.info.name, error });
      }
    }
    return pairs;
  }

  notify(ring: () => void): () => void {
    try {
      return this.#do("read", new Call(), (registry) => registry.notify(ring));
    } catch (error) {
      if (!isMissing(error)) throw error;
      // Without the service there is nothing that could change.
      return () => undefined;
    }
  }

  async close(): Promise<void> {
    this.#release();
  }

  #release(): void {
    for (const key of this.#keys.values()) key.close();
    this.#keys.clear();
  }

  #do<T>(doing: "read" | "write", call: Call, action: (registry: RegistryKey) => T): T {
    call.check(`pool ${this.info.name}`);
    try {
      try {
        return action(this.#key(doing));
      } catch (error) {
        // The service was removed and installed: the handle is of a key that is gone.
        if (!hasCode(error, "ENOENT")) throw error;
        this.#release();
        return action(this.#key(doing));
      }
    } catch (error) {
      throw fromSystemError(error, {
        doing: `cannot ${doing} pool ${this.info.name}: HKLM\\${this.#path}`,
        advice: {
          ENOENT:
            "the Hyper-V Data Exchange Service has not made it: start it (sc start vmickvpexchange), or allow createPools",
          EACCES: "run as administrator",
        },
      });
    }
  }

  #key(doing: "read" | "write"): RegistryKey {
    const { open, create } = this.#parts;
    const opening = doing === "read" ? {} : { writable: true, create };
    const key = this.#keys.get(doing) ?? open(this.#path, opening);
    this.#keys.set(doing, key);
    return key;
  }

  #bytesOf({ name, data, type }: RegistryValue): Uint8Array {
    const refuse = (why: string): PvbusError =>
      pvbusError(
        "ERR_NOT_SUPPORTED",
        `HKLM\\${this.#path}: value ${JSON.stringify(name)} ${why}; the exchange takes text and numbers only, set it as REG_SZ`,
      );
    if (data === undefined) throw refuse("is longer than 1 MiB");
    if (type === REG_SZ || type === REG_EXPAND_SZ)
      return Buffer.from(data.toString("utf16le").split("\0", 1)[0] as string, "utf8");
    if (type !== REG_DWORD && type !== REG_QWORD) throw refuse(`has the registry type ${type}`);
    if (data.length !== (type === REG_DWORD ? 4 : 8))
      throw refuse(`has ${data.length} bytes, which is no number`);
    return Buffer.from(String(type === REG_DWORD ? data.readUInt32LE() : data.readBigUInt64LE()));
  }
}

function registryText(utf8: Uint8Array): Buffer {
  return Buffer.from(`${Buffer.from(utf8).toString("utf8")}\0`, "utf16le");
}
