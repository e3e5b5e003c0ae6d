import { pvbusError } from "../../src/base/errors.js";
import type { Call } from "../../src/base/flow/call.js";
import type { Host, Logger } from "../../src/base/host/host.js";
import { fromSystemError, isSystemError } from "../../src/base/system-error.js";
import { PVBUS_KVOP_MAXSIZE } from "../../src/native/bsd/pvbus-device.js";
import { type PvbusNode, PvbusNodeOfType, type PvbusNodes } from "../../src/native/bsd/pvbus-nodes.js";
import { checkKernelPair, isLatin1, kernelCapabilities } from "./kernel-limits.js";
import type { PoolInfo } from "./keys.js";
import type { HypervOptions } from "./options.js";
import type { PoolPair, PoolSystem, StorePool } from "./store-pool.js";

/** The kernel tells of no change: how often it is looked for one. */
const POLL_MS = 1_000;
/** Value buffer of a read; the driver refuses less than 1024. */
const FIRST_ROOM = 4_096;
const LONGEST_NAME_BYTES = 512;

/**
 * The pools as OpenBSD's kernel keeps them in memory, through the `/dev/pvbusN` whose type is Hyper-V: Guest takes each
 * name once and keeps it until the next boot, Auto takes new values for its own names. Not verified by a run on OpenBSD.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for settings that only files have
 */
export function kernelPools(host: Host, options: HypervOptions, nodes?: PvbusNodes): PoolSystem {
  const given = Object.entries(options).find(([, value]) => value !== undefined && value !== false)?.[0];
  if (given !== undefined) {
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the pools of OpenBSD are in its kernel; the option ${given} has no meaning there, leave it out`,
    );
  }
  const bus = new PvbusNodeOfType("Hyper-V", nodes);
  return {
    place: "/dev/pvbusN",
    capabilities: kernelCapabilities(),
    longestKeyBytes: LONGEST_NAME_BYTES,
    separator: ":",
    pool: (info) => new KernelPool(info, bus, host.logger),
    check: checkKernelPair,
    notify: (_pools, ring) => {
      const timer = setInterval(ring, POLL_MS);
      return () => clearInterval(timer);
    },
    close: () => bus.close(),
  };
}

class KernelPool implements StorePool {
  readonly info: PoolInfo;
  readonly #bus: PvbusNodeOfType;
  readonly #logger: Logger;

  constructor(info: PoolInfo, bus: PvbusNodeOfType, logger: Logger) {
    this.info = info;
    this.#bus = bus;
    this.#logger = logger;
  }

  async read(key: string, call: Call): Promise<Uint8Array | undefined> {
    if (/[/\n]/.test(key) || !isLatin1(key)) return undefined;
    return this.#do("read", call, (device) => {
      const value = this.#value(device, key);
      return value && Buffer.from(value.toString("latin1"), "utf8");
    });
  }

  async write(key: string, value: Uint8Array, call: Call): Promise<void> {
    if (this.info.name === "Guest") {
      if (await this.insert(key, value, call)) return;
      // The same once more is no change.
      const there = await this.read(key, call);
      if (there !== undefined && Buffer.compare(there, value) === 0) return;
      throw pvbusError(
        "ERR_NOT_SUPPORTED",
        "OpenBSD's kernel takes each name of pool Guest once and keeps its value until the next boot; use another name",
      );
    }
    this.#do("write", call, (device) => {
      try {
        device.write(this.#native(key), latin1(value));
      } catch (error) {
        if (!hasCode(error, "ENOENT")) throw error;
        throw pvbusError(
          "ERR_KEY_INVALID",
          "OpenBSD's kernel takes new values for the names that pool Auto has, no new names; see pvbus ls Auto/",
        );
      }
    });
  }

  async insert(key: string, value: Uint8Array, call: Call): Promise<boolean> {
    return this.#do("write", call, (device) => {
      try {
        device.write(this.#native(key), latin1(value));
        return true;
      } catch (error) {
        if (hasCode(error, "EEXIST")) return false;
        throw error;
      }
    });
  }

  async delete(): Promise<boolean> {
    throw pvbusError("ERR_NOT_SUPPORTED", "OpenBSD's kernel removes nothing before the next boot");
  }

  async *list(prefix: string, call: Call): AsyncGenerator<PoolPair, void, undefined> {
    yield* (await this.snapshot(prefix, call)).values();
  }

  /** One name after the other: the kernel has no call for all values at once. */
  async snapshot(prefix: string, call: Call): Promise<ReadonlyMap<string, PoolPair>> {
    return this.#do("read", call, (device) => {
      const pairs = new Map<string, PoolPair>();
      for (const key of this.#names(device)) {
        if (!key.startsWith(prefix)) continue;
        const value = key.includes("/") ? undefined : this.#value(device, key);
        if (value === undefined) {
          // A slash or a line end in its name puts it out of reach.
          this.#logger.warn("name left out of the listing", { pool: this.info.name, key });
        } else pairs.set(key, { key, value: Buffer.from(value.toString("latin1"), "utf8") });
      }
      return pairs;
    });
  }

  async close(): Promise<void> {
    // The device belongs to all pools.
  }

  #names(device: PvbusNode): string[] {
    const text = device.read(this.#native(""), PVBUS_KVOP_MAXSIZE).toString("latin1");
    return text === "" ? [] : text.split("\n");
  }

  #value(device: PvbusNode, key: string): Buffer | undefined {
    for (let room = FIRST_ROOM; ; room *= 2) {
      try {
        return device.read(this.#native(key), room);
      } catch (error) {
        if (hasCode(error, "ENOENT")) return undefined;
        if (!hasCode(error, "ERANGE") || room >= PVBUS_KVOP_MAXSIZE) throw error;
      }
    }
  }

  #native(key: string): Buffer {
    return Buffer.from(`${this.info.name}/${key}`, "latin1");
  }

  #do<T>(doing: "read" | "write", call: Call, action: (device: PvbusNode) => T): T {
    call.check(`pool ${this.info.name}`);
    try {
      return action(this.#bus.get(doing === "write"));
    } catch (error) {
      throw fromSystemError(error, {
        doing: `cannot ${doing} pool ${this.info.name} of the kernel`,
        advice: {
          EACCES: "reading is for group wheel, writing for root",
          EPERM: "reading is for group wheel, writing for root",
          ERANGE: "the kernel hands out 64 KiB of names at most; let the host remove some",
          ENXIO: "its hyperv(4) did not attach the exchange; see dmesg",
        },
        codes: { ERANGE: "ERR_NO_SPACE" },
      });
    }
  }
}

function latin1(utf8: Uint8Array): Buffer {
  return Buffer.from(Buffer.from(utf8).toString("utf8"), "latin1");
}

function hasCode(error: unknown, code: string): boolean {
  return isSystemError(error) && error.code === code;
}
