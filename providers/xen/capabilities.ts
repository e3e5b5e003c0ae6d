import type { Capabilities } from "../../src/contract/capabilities.js";
import type { DriverPlatform } from "./transport/transport.js";

/** What XenStore is reached through: the daemon's messages, or a driver that has an interface of its own. */
export type Way = "daemon" | DriverPlatform;

/** What XenStore can do, by what it is reached through. The drivers of OpenBSD and Windows take text. */
export const CAPABILITIES: Readonly<Record<Way, Capabilities>> = {
  daemon: Object.freeze({ read: true, write: true, delete: true, list: true, watch: true, binary: true }),
  openbsd: Object.freeze({ read: true, write: true, delete: false, list: true, watch: false }),
  win32: Object.freeze({ read: true, write: true, delete: true, list: true, watch: false }),
};
