import { readdirSync } from "node:fs";
import { pvbusError } from "../../base/errors.js";
import { isSystemError } from "../../base/system-error.js";
import { openPvbusDevice, type PvbusDevice, type PvbusDeviceOptions } from "./pvbus-device.js";

/** An open device, as far as its callers need it. */
export type PvbusNode = Pick<PvbusDevice, "type" | "read" | "write" | "close">;

/** OpenBSD's pvbus devices; stands in for them in tests. */
export interface PvbusNodes {
  /** Returns the devices' paths. */
  paths(): readonly string[];
  /** Opens one. */
  open(path: string, options: PvbusDeviceOptions): PvbusNode;
}

const LIVE: PvbusNodes = {
  paths: () =>
    readdirSync("/dev")
      .filter((name) => /^pvbus\d+$/.test(name))
      .sort()
      .map((name) => `/dev/${name}`),
  open: openPvbusDevice,
};

/** The device of one type of interface, found and opened on first use; for writing when something is written first. */
export class PvbusNodeOfType {
  readonly #type: string;
  readonly #nodes: PvbusNodes;
  #path: string | undefined;
  readonly #open = new Map<boolean, PvbusNode>();

  /** @param type as the kernel gives it, `Xen` */
  constructor(type: string, nodes: PvbusNodes = LIVE) {
    this.#type = type;
    this.#nodes = nodes;
  }

  /**
   * Returns the open device.
   * @throws PvbusError `ERR_UNAVAILABLE` when there is none of that type; a system error of open(2)
   */
  get(writable: boolean): PvbusNode {
    const known = this.#open.get(writable);
    if (known !== undefined) return known;
    this.#path ??= this.#find();
    const device = this.#nodes.open(this.#path, { writable });
    this.#open.set(writable, device);
    return device;
  }

  /** Closes what is open. */
  close(): void {
    for (const device of this.#open.values()) device.close();
    this.#open.clear();
  }

  #find(): string {
    for (const path of this.#nodes.paths()) {
      try {
        const device = this.#nodes.open(path, {});
        try {
          if (device.type() === this.#type) return path;
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
      `no /dev/pvbusN is of type ${this.#type}; the kernel attaches the driver on such machines only, see dmesg`,
    );
  }
}
