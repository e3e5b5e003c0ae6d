import { accessSync, constants } from "node:fs";
import { Call } from "../../base/flow/call.js";
import { type HostctlErrno, HostctlError } from "../../base/hostctl-error.js";
import { isSystemError } from "../../base/system-error.js";
import type { Bus } from "../../bus/bus.js";
import { openPvbusDevice, type PvbusDeviceOptions } from "../../native/bsd/pvbus-device.js";

/** An open pvbus(4) device. */
export interface PvbusDevice {
  /** Answer of the type call. @throws HostctlError */
  type(): string;
  /** The read call with a buffer of that length. @throws HostctlError */
  read(key: Uint8Array, valueLength: number): Promise<Uint8Array>;
  /** The write call. @returns what it leaves in the value buffer @throws HostctlError */
  write(key: Uint8Array, value: Uint8Array): Promise<Uint8Array>;
}

/** Opens pvbus(4) devices by name. */
export interface PvbusDevices {
  /** @throws HostctlError with the errno of open(2) */
  open(name: string, mode: "read" | "write"): Promise<PvbusDevice>;
}

/** MAKEDEV makes the nodes pvbus0 and pvbus1 whether or not the machine has the interfaces. */
const NODES_ALWAYS_THERE = 2;

/**
 * Opens an interface of a bus as OpenBSD's device: `/dev/pvbusN`, `pvbusN` or `N` is interface N, any other path a file that knows
 * none of the calls.
 */
export async function openBusDevice(bus: Bus, name: string): Promise<PvbusDevice> {
  const unit = /^(?:(?:\/dev\/)?pvbus)?(\d{1,9})$/.exec(name)?.[1];
  if (unit === undefined) return foreignDevice(name);
  const target = bus.interface(`pvbus${Number(unit)}`);
  if (target === undefined) {
    if (Number(unit) >= NODES_ALWAYS_THERE) throw new HostctlError("ENOENT");
    throw new HostctlError(bus.interfaces.length === 0 ? "ENODEV" : "ENXIO");
  }
  const store = async () => {
    const kernel = await target.hostctlStore();
    if (kernel === undefined) throw new HostctlError("ENXIO");
    return kernel;
  };
  return {
    type: () => target.type,
    read: async (key, valueLength) => (await store()).read(key, valueLength, new Call()),
    write: async (key, value) => (await store()).write(key, value, new Call()),
  };
}

function foreignDevice(path: string): PvbusDevice {
  try {
    accessSync(path, constants.R_OK);
  } catch (error) {
    throw new HostctlError((error as NodeJS.ErrnoException).code as HostctlErrno, error);
  }
  const refuse = (): never => {
    throw new HostctlError("ENOTTY");
  };
  return { type: refuse, read: async () => refuse(), write: async () => refuse() };
}

/** Bytes of hostctl's value buffer for a write: drivers such as xen(4) answer in it. */
const WRITE_ROOM = 4096;

/** Opens OpenBSD's own device by its path, `pvbusN` and `N` below `/dev`: each call is the kernel's, each refusal its errno. */
export async function openOpenbsdDevice(
  name: string,
  mode: "read" | "write",
  options: PvbusDeviceOptions = {},
): Promise<PvbusDevice> {
  const path = name.replace(/^(?:pvbus)?(?=\d+$)/, "/dev/pvbus");
  const device = inKernelWords(() => openPvbusDevice(path, { ...options, writable: mode === "write" }));
  return {
    type: () => inKernelWords(() => device.type()),
    read: async (key, valueLength) => inKernelWords(() => device.read(key, valueLength)),
    write: async (key, value) => inKernelWords(() => device.write(key, value, WRITE_ROOM)),
  };
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
