import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import type { Logger } from "../../../src/base/host/host.js";
import { fromSystemError } from "../../../src/base/system-error.js";
import {
  PVBUS_KVOP_MAXSIZE,
  type PvbusNode,
  PvbusNodeOfType,
  type PvbusNodes,
} from "../../../src/native/bsd/pvbus-device.js";
import type { PoolInfo } from "../protocol/keys.js";
import { checkOpenbsdPair, isLatin1 } from "../protocol/limits.js";
import { hasCode, type Pool, type PoolPair, type PoolTransport } from "./pool.js";

/** The kernel reports no changes: how often they are looked for. */
const POLL_MS = 1_000;
/** Value buffer of a read; the driver refuses less than 1024. */
const FIRST_ROOM = 4_096;
const LONGEST_NAME_BYTES = 512;
const WHO_MAY = "reading is for group wheel, writing for root";

/**
 * The pools as OpenBSD's kernel keeps them in memory, through the `/dev/pvbusN` whose type is Hyper-V: Guest takes each
 * name once and keeps it until the next boot, Auto takes new values for its own names. Not verified by a run on OpenBSD.
 */
export function openbsdPools(logger: Logger, nodes?: PvbusNodes): PoolTransport {
  const bus = new PvbusNodeOfType("Hyper-V", nodes);
  return {
    location: "/dev/pvbusN",
    longestKeyBytes: LONGEST_NAME_BYTES,
    separator: ":",
    pool: (info) => new OpenbsdPool(info, bus, logger),
    check: checkOpenbsdPair,
    notify: (_pools, ring) => {
      const timer = setInterval(ring, POLL_MS);
      return () => clearInterval(timer);
    },
    close: () => bus.close(),
  };
}

class OpenbsdPool implements Pool {
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
    return this.#do("read", call, (device) => this.#value(device, key));
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
        this.#put(device, key, value);
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
        this.#put(device, key, value);
        return true;
      } catch (error) {
        if (!hasCode(error, "EEXIST")) throw error;
        return false;
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
        } else pairs.set(key, { key, value });
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
        return Buffer.from(device.read(this.#native(key), room).toString("latin1"), "utf8");
      } catch (error) {
        if (hasCode(error, "ENOENT")) return undefined;
        if (!hasCode(error, "ERANGE") || room >= PVBUS_KVOP_MAXSIZE) throw error;
      }
    }
  }

  #put(device: PvbusNode, key: string, value: Uint8Array): void {
    device.write(this.#native(key), Buffer.from(Buffer.from(value).toString("utf8"), "latin1"));
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
        doing: `cannot ${doing} pool ${this.info.name} of OpenBSD's kernel`,
        advice: {
          EACCES: WHO_MAY,
          EPERM: WHO_MAY,
          ERANGE: "the kernel hands out 64 KiB of names at most; let the host remove some",
          ENXIO: "its hyperv(4) did not attach the exchange; see dmesg",
        },
        codes: { ERANGE: "ERR_NO_SPACE" },
      });
    }
  }
}
