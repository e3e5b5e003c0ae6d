import { readdirSync } from "node:fs";
import type { Call } from "../../src/bus/call.js";
import { pvbusError } from "../../src/bus/errors.js";
import { fromSystemError, isSystemError } from "../../src/bus/system-error.js";
import {
  openPvbusDevice,
  PVBUS_KVOP_MAXSIZE,
  type PvbusKernelDevice,
} from "../../src/native/pvbus-device.js";
import type { RpcTransport } from "./transport.js";

/** The kernel's devices; stands in for them in tests. */
export interface KernelNodes {
  /** Gives the devices' paths. */
  paths(): readonly string[];
  /** Opens one. */
  open(
    path: string,
    options: { readonly writable?: boolean },
  ): Pick<PvbusKernelDevice, "type" | "read" | "write" | "close">;
}

const NODES: KernelNodes = {
  paths: () =>
    readdirSync("/dev")
      .filter((name) => /^pvbus\d+$/.test(name))
      .sort()
      .map((name) => `/dev/${name}`),
  open: openPvbusDevice,
};

const FIRST_ROOM = 4096;
const ADVICE = { EACCES: "reading needs group wheel, writing root", EPERM: "writing needs root" };

/**
 * OpenBSD's own driver, vmt(4), through `/dev/pvbusN`: it knows the commands info-get and info-set, and tells no reason of a
 * refusal: on a read it counts as a key that is not there. Not verified by a run on OpenBSD.
 */
export class KernelTransport implements RpcTransport {
  readonly privileged = false;
  readonly #nodes: KernelNodes;
  #path: string | undefined;
  readonly #open = new Map<boolean, ReturnType<KernelNodes["open"]>>();

  /** @param nodes stands in for the kernel's devices */
  constructor(nodes: KernelNodes = NODES) {
    this.#nodes = nodes;
  }

  get name(): string {
    return this.#path ?? "/dev/pvbusN";
  }

  async prepare(): Promise<void> {
    this.#path ??= this.#find();
  }

  async exchange(request: Uint8Array, call: Call): Promise<Uint8Array> {
    call.check("the kernel's reply");
    const text = Buffer.from(request);
    const [name, key, value] = split(text);
    if (name === "info-get") return this.#run("read", () => this.#read(key));
    if (name === "info-set") return this.#run("write", () => this.#write(key, value));
    return Buffer.from("0 Unknown command");
  }

  async close(): Promise<void> {
    for (const device of this.#open.values()) device.close();
    this.#open.clear();
  }

  #run(what: "read" | "write", action: () => Buffer): Buffer {
    try {
      return action();
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (error.code === "EINVAL")
        return Buffer.from(what === "read" ? "0 No value found" : "0 Permission denied");
      throw fromSystemError(error, { doing: `cannot ${what} through ${this.name}`, advice: ADVICE });
    }
  }

  /** The buffer grows until the reply fits; what is larger than the largest cannot be read here. */
  #read(key: Buffer): Buffer {
    const device = this.#device(false);
    for (let room = FIRST_ROOM; ; room *= 2) {
      try {
        return Buffer.concat([Buffer.from("1 "), device.read(key, Math.min(room, PVBUS_KVOP_MAXSIZE))]);
      } catch (error) {
        const tooSmall = isSystemError(error) && (error.code === "ERANGE" || error.code === "EMSGSIZE");
        if (!tooSmall) throw error;
        if (room < PVBUS_KVOP_MAXSIZE) continue;
        throw pvbusError(
          "ERR_VALUE_TOO_LONG",
          `the value has more bytes than OpenBSD's kernel hands over, ${PVBUS_KVOP_MAXSIZE} at most`,
        );
      }
    }
  }

  /** The kernel answers in the value's buffer: one that is too short fails behind the write. */
  #write(key: Buffer, value: Buffer): Buffer {
    this.#device(true).write(key, value, Math.max(64, value.length + 1));
    return Buffer.from("1 ");
  }

  #device(writable: boolean): ReturnType<KernelNodes["open"]> {
    const known = this.#open.get(writable);
    if (known !== undefined) return known;
    this.#path ??= this.#find();
    const device = this.#nodes.open(this.#path, { writable });
    this.#open.set(writable, device);
    return device;
  }

  #find(): string {
    for (const path of this.#nodes.paths()) {
      try {
        const device = this.#nodes.open(path, {});
        const type = device.type();
        device.close();
        if (type === "VMware") return path;
      } catch (error) {
        if (!isSystemError(error)) throw error;
        if (error.code === "EACCES" || error.code === "EPERM")
          throw fromSystemError(error, { doing: `cannot open ${path}`, advice: ADVICE });
        // A node without an interface behind it.
      }
    }
    throw pvbusError("ERR_NO_INTERFACE", "no /dev/pvbusN is of type VMware; see dmesg for vmt(4)");
  }
}

function split(command: Buffer): [string, Buffer, Buffer] {
  const first = command.indexOf(" ");
  const name = command.subarray(0, first).toString("latin1");
  const rest = command.subarray(first + 1);
  const second = name === "info-set" ? rest.indexOf(" ") : -1;
  return second < 0
    ? [name, rest, Buffer.alloc(0)]
    : [name, rest.subarray(0, second), rest.subarray(second + 1)];
}
