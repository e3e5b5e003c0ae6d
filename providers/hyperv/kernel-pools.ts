import { readdirSync } from "node:fs";
import type { Call } from "../../src/bus/call.js";
import { pvbusError } from "../../src/bus/errors.js";
import { fromSystemError, isSystemError } from "../../src/bus/system-error.js";
import type { Host, Logger } from "../../src/host/host.js";
import {
  openPvbusDevice,
  PVBUS_KVOP_MAXSIZE,
  type PvbusDeviceOptions,
  type PvbusKernelDevice,
} from "../../src/native/pvbus-device.js";
import { checkKernelPair, isLatin1, kernelCapabilities } from "./kernel-limits.js";
import type { PoolInfo } from "./keys.js";
import type { HypervOptions } from "./options.js";
import type { PoolPair, PoolSystem, StorePool } from "./store-pool.js";

/** The kernel's devices; stands in for them in tests. */
export interface PvbusNodes {
  /** Gives the devices' paths. */
  paths(): readonly string[];
  /** Opens one. */
  open(
    path: string,
    options: PvbusDeviceOptions,
  ): Pick<PvbusKernelDevice, "type" | "read" | "write" | "close">;
}

type Device = ReturnType<PvbusNodes["open"]>;

/** The kernel tells of no change: how often it is looked for one. */
const POLL_MS = 1_000;
/** Value buffer of a read; the driver refuses less than 1024. */
const FIRST_ROOM = 4_096;
const LONGEST_NAME_BYTES = 512;

const NODES: PvbusNodes = {
  paths: () =>
    readdirSync("/dev")
      .filter((name) => /^pvbus\d+$/.test(name))
      .sort()
      .map((name) => `/dev/${name}`),
  open: openPvbusDevice,
};

/**
 * The pools as OpenBSD's kernel keeps them in memory, through the `/dev/pvbusN` whose type is Hyper-V: Guest takes each
 * name once and keeps it until the next boot, Auto takes new values for its own names. Not verified by a run on OpenBSD.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for settings that only files have
 */
export function kernelPools(host: Host, options: HypervOptions, nodes: PvbusNodes = NODES): PoolSystem {
  const given = Object.entries(options).find(([, value]) => value !== undefined && value !== false)?.[0];
  if (given !== undefined) {
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the pools of OpenBSD are in its kernel; the option ${given} has no meaning there, leave it out`,
    );
  }
  const bus = new KernelDevice(nodes);
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

/** The device of the interface, opened for writing when something is written first. */
class KernelDevice {
  readonly #nodes: PvbusNodes;
  #path: string | undefined;
  readonly #open = new Map<boolean, Device>();

  constructor(nodes: PvbusNodes) {
    this.#nodes = nodes;
  }

  get(writable: boolean): Device {
    const known = this.#open.get(writable);
    if (known !== undefined) return known;
    this.#path ??= this.#find();
    const device = this.#nodes.open(this.#path, { writable });
    this.#open.set(writable, device);
    return device;
  }

  close(): void {
    for (const device of this.#open.values()) device.close();
    this.#open.clear();
  }

  #find(): string {
    for (const path of this.#nodes.paths()) {
      try {
        const device = this.#nodes.open(path, {});
        try {
          if (device.type() === "Hyper-V") return path;
        } finally {
          device.close();
        }
      } catch (error) {
        // A node without an interface; one that may not be opened is what the caller has to know.
        if (!isSystemError(error) || error.code === "EACCES" || error.code === "EPERM") throw error;
      }
    }
    throw pvbusError(
      "ERR_UNAVAILABLE",
      "no /dev/pvbusN is of type Hyper-V; the kernel attaches hyperv(4) on such machines only, see dmesg",
    );
  }
}

class KernelPool implements StorePool {
  readonly info: PoolInfo;
  readonly #bus: KernelDevice;
  readonly #logger: Logger;

  constructor(info: PoolInfo, bus: KernelDevice, logger: Logger) {
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

  #names(device: Device): string[] {
    const text = device.read(this.#native(""), PVBUS_KVOP_MAXSIZE).toString("latin1");
    return text === "" ? [] : text.split("\n");
  }

  #value(device: Device, key: string): Buffer | undefined {
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

  #do<T>(doing: "read" | "write", call: Call, action: (device: Device) => T): T {
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
