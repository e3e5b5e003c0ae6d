import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import type { WindowsDevice } from "../../../src/native/windows/device.js";
import { decodeStrings, XENSTORE_PAYLOAD_MAX } from "../protocol/wire.js";
import type { DriverNode, XenStoreDriver } from "./transport.js";

/** Device interface of the driver (xcp-ng/win-xeniface include/xeniface_ioctls.h). */
export const XENIFACE_INTERFACE = "B2CFB085-AA5E-47E1-8BF7-9793F3154565";
/** Control codes of the store (xeniface_ioctls.h). */
export const XENIFACE = {
  READ: 0x22_2000,
  WRITE: 0x22_2004,
  DIRECTORY: 0x22_2008,
  REMOVE: 0x22_200c,
} as const;

/** Room for the largest reply and two NULs: a smaller buffer is refused rather than filled. */
const ROOM = XENSTORE_PAYLOAD_MAX + 2;
const PRINTABLE = /^[\x20-\x7e]*$/;

/**
 * Windows' XENIFACE driver: values are printable ASCII and end at a NUL; there are no transactions, and its watches tell no
 * path, so none are offered. Not verified by a run on Xen: the driver was simulated after its source.
 */
export class XenifaceDriver implements XenStoreDriver {
  readonly platform = "win32";
  readonly #device: WindowsDevice;

  constructor(device: WindowsDevice) {
    this.#device = device;
  }

  check(path: string, value: Uint8Array): void {
    if (!PRINTABLE.test(Buffer.from(value).toString("latin1"))) {
      throw pvbusError(
        "ERR_VALUE_INVALID",
        "the driver of Windows takes printable ASCII only; encode the value (base64)",
      );
    }
    if (path.length + 1 + value.length <= XENSTORE_PAYLOAD_MAX) return;
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `XenStore takes ${XENSTORE_PAYLOAD_MAX - 1} bytes of path and value together; shorten the value`,
    );
  }

  async look(path: string, children: boolean, call: Call): Promise<DriverNode | undefined> {
    const value = await this.#get(XENIFACE.READ, path, call);
    if (value === undefined) return undefined;
    const nul = value.indexOf(0);
    const names = children ? await this.#get(XENIFACE.DIRECTORY, path, call) : undefined;
    return {
      value: nul < 0 ? value : value.subarray(0, nul),
      names: decodeStrings(names ?? Buffer.alloc(0)).filter((name) => name !== ""),
    };
  }

  async write(path: string, value: Uint8Array, call: Call): Promise<void> {
    const input = Buffer.concat([Buffer.from(`${path}\0`), value, Buffer.alloc(2)]);
    await this.#do("write", XENIFACE.WRITE, input, 0, call);
  }

  async remove(path: string, call: Call): Promise<void> {
    await this.#do("remove", XENIFACE.REMOVE, Buffer.from(`${path}\0`), 0, call);
  }

  close(): Promise<void> {
    return this.#device.close();
  }

  async #get(code: number, path: string, call: Call): Promise<Buffer | undefined> {
    try {
      return await this.#do("read", code, Buffer.from(`${path}\0`), ROOM, call);
    } catch (error) {
      const { cause } = error as { readonly cause?: unknown };
      if (isSystemError(cause) && cause.code === "ENOENT") return undefined;
      throw error;
    }
  }

  async #do(doing: string, code: number, input: Buffer, room: number, call: Call): Promise<Buffer> {
    try {
      return await call.within(this.#device.control(code, input, room), "XenStore's answer");
    } catch (error) {
      throw fromSystemError(error, {
        doing: `cannot ${doing} XenStore through the XENIFACE driver`,
        advice: { EACCES: "this domain may not" },
        codes: { EINVAL: "ERR_KEY_INVALID", ENOENT: "ERR_KEY_INVALID" },
      });
    }
  }
}
