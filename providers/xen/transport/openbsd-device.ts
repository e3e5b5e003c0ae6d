import { pvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import { type PvbusNode, PvbusNodeOfType, type PvbusNodes } from "../../../src/native/bsd/pvbus-device.js";
import { childPath, NODE } from "../protocol/keys.js";
import type { DriverNode, XenStoreDriver } from "./transport.js";

/** Largest payload, path and NUL included, of a request and of a reply (OpenBSD sys/dev/pv/xenstore.c). */
const MOST = 1024;
/** Room for a value of that size and its NUL. */
const ROOM = 2 * MOST;
/** What is left of a request beside the longest portable key. */
const PORTABLE_BYTES = 300;

/**
 * OpenBSD's `/dev/pvbusN` of type Xen. Its driver gives a node's children in place of an empty value: what looks like names
 * and has the first of them below it is taken for that. Children of a node that has a value cannot be listed. Not verified
 * by a run on OpenBSD.
 */
export class OpenbsdDevice implements XenStoreDriver {
  readonly platform = "openbsd";
  readonly portableBytes = PORTABLE_BYTES;
  readonly #node: PvbusNodeOfType;

  /** @param nodes stands in for the kernel */
  constructor(nodes?: PvbusNodes) {
    this.#node = new PvbusNodeOfType("Xen", nodes);
  }

  check(path: string, value: Uint8Array): void {
    if (path.length >= MOST)
      throw pvbusError("ERR_KEY_TOO_LONG", "OpenBSD's kernel takes no path so long; shorten it");
    if (path.length + 1 + value.length <= MOST) return;
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `OpenBSD's kernel takes ${MOST - 1} bytes of path and value together; shorten the value`,
    );
  }

  async look(path: string, _children: boolean, _call: Call): Promise<DriverNode | undefined> {
    const found = this.#get(path);
    if (found === undefined || found.length === 0) return found && { value: found, names: [] };
    const lines = found.toString("latin1").split("\n");
    const [first = ""] = lines;
    const listing = lines.every((line) => NODE.test(line)) && this.#get(childPath(path, first)) !== undefined;
    return listing ? { value: Buffer.alloc(0), names: lines } : { value: found, names: [] };
  }

  async write(path: string, value: Uint8Array, _call: Call): Promise<void> {
    this.#do("write", (device) => device.write(Buffer.from(path), value, ROOM));
  }

  async close(): Promise<void> {
    this.#node.close();
  }

  #get(path: string): Buffer | undefined {
    return this.#do("read", (device) => {
      try {
        return device.read(Buffer.from(path), ROOM);
      } catch (error) {
        if (isSystemError(error) && error.code === "ENOENT") return undefined;
        throw error;
      }
    });
  }

  #do<T>(doing: "read" | "write", action: (device: PvbusNode) => T): T {
    try {
      return action(this.#node.get(doing === "write"));
    } catch (error) {
      throw fromSystemError(error, {
        doing: `cannot ${doing} XenStore through the kernel`,
        advice: {
          EACCES:
            "this domain may not, or you may not open the device: reading is for group wheel, writing for root",
          EPERM: "reading is for group wheel, writing for root",
          EMSGSIZE: "the value is longer than the 1024 bytes that the kernel takes",
          ERANGE: "the names of the children are more than the kernel hands out",
          EOPNOTSUPP: "the daemon gave an error that the kernel has no number for, most likely of a quota",
        },
        codes: {
          EINVAL: "ERR_KEY_INVALID",
          EMSGSIZE: "ERR_VALUE_TOO_LONG",
          ERANGE: "ERR_NO_SPACE",
          EIO: "ERR_UNAVAILABLE",
          EOPNOTSUPP: "ERR_NO_SPACE",
        },
      });
    }
  }
}
