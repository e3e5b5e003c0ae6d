import { type HostctlErrno, HostctlError } from "../../base/hostctl-error.js";
import { isSystemError } from "../../base/system-error.js";
import { openPvbusDevice, type PvbusDeviceOptions } from "../../native/bsd/pvbus-device.js";
import type { PvbusDevice, PvbusDevices } from "./devices.js";

/** Bytes of hostctl's value buffer for a write: drivers such as xen(4) answer in it. */
const WRITE_ROOM = 4096;

/** OpenBSD's own devices: each call is the kernel's, each refusal the kernel's errno. */
export class OpenbsdDevices implements PvbusDevices {
  readonly #options: PvbusDeviceOptions;

  /** @param options stand-ins for the kernel's call and the native library */
  constructor(options: PvbusDeviceOptions = {}) {
    this.#options = options;
  }

  /** Opens a device by its path, `pvbusN` and `N` below `/dev`. */
  async open(name: string, mode: "read" | "write"): Promise<PvbusDevice> {
    const path = name.replace(/^(?:pvbus)?(?=\d+$)/, "/dev/pvbus");
    const device = inKernelWords(() =>
      openPvbusDevice(path, { ...this.#options, writable: mode === "write" }),
    );
    return {
      type: () => inKernelWords(() => device.type()),
      read: async (key, valueLength) => inKernelWords(() => device.read(key, valueLength)),
      write: async (key, value) => inKernelWords(() => device.write(key, value, WRITE_ROOM)),
    };
  }
}

/** Runs a call of the kernel, its error as a {@link HostctlError}. */
function inKernelWords<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    if (isSystemError(error)) throw new HostctlError(error.code as HostctlErrno, error);
    throw error;
  }
}
