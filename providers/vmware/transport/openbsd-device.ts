import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import {
  PVBUS_KVOP_MAXSIZE,
  PvbusNodeOfType,
  type PvbusNodes,
} from "../../../src/native/bsd/pvbus-device.js";
import type { RpcTransport } from "./rpc-transport.js";

const FIRST_ROOM = 4096;
const ADVICE = { EACCES: "reading needs group wheel, writing root", EPERM: "writing needs root" };

/**
 * OpenBSD's own driver, vmt(4), through `/dev/pvbusN`: it knows the commands info-get and info-set, and gives no reason for a
 * refusal: on a read it counts as a key that is not there. Not verified by a run on OpenBSD.
 */
export class OpenbsdDeviceTransport implements RpcTransport {
  readonly name = "OpenBSD's kernel";
  readonly privileged = false;
  readonly #node: PvbusNodeOfType;

  /** @param nodes stands in for the kernel's devices */
  constructor(nodes?: PvbusNodes) {
    this.#node = new PvbusNodeOfType("VMware", nodes);
  }

  async prepare(): Promise<void> {
    this.#run("read", () => this.#node.get(false));
  }

  async exchange(request: Uint8Array, call: Call): Promise<Uint8Array> {
    call.check("the kernel's reply");
    const [name, key, value] = split(Buffer.from(request));
    if (name === "info-get") return this.#run("read", () => this.#read(key));
    if (name === "info-set") return this.#run("write", () => this.#write(key, value));
    return Buffer.from("0 Unknown command");
  }

  async close(): Promise<void> {
    this.#node.close();
  }

  /** The driver's EINVAL is any refusal of the host. */
  #run<T>(what: "read" | "write", action: () => T): T | Buffer {
    try {
      return action();
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (error.code === "EINVAL")
        return Buffer.from(what === "read" ? "0 No value found" : "0 Permission denied");
      throw fromSystemError(error, { doing: `cannot ${what} guestinfo through the kernel`, advice: ADVICE });
    }
  }

  /** The buffer grows until the reply fits; what is larger than the largest cannot be read here. */
  #read(key: Buffer): Buffer {
    const device = this.#node.get(false);
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
    this.#node.get(true).write(key, value, Math.max(64, value.length + 1));
    return Buffer.from("1 ");
  }
}

/** Name, key and, of info-set, value. */
function split(command: Buffer): [string, Buffer, Buffer] {
  const [nameEnd, end] = [command.indexOf(" "), command.length];
  const name = command.subarray(0, nameEnd).toString("latin1");
  const found = name === "info-set" ? command.indexOf(" ", nameEnd + 1) : -1;
  const keyEnd = found < 0 ? end : found;
  return [name, command.subarray(nameEnd + 1, keyEnd), command.subarray(Math.min(keyEnd + 1, end))];
}
