import { pvbusError } from "../../src/base/errors.js";
import { fromSystemError } from "../../src/base/system-error.js";
import type { WindowsDevice } from "../../src/native/windows/device.js";
import type { DirectAccess } from "./driver-store.js";

export { DirectXenStore } from "./driver-store.js";

/** Operating systems whose driver has an interface of its own. */
export type DirectPlatform = "openbsd" | "win32";

/**
 * Opens the driver.
 * @throws PvbusError `ERR_UNAVAILABLE` when it is not there, `ERR_PERMISSION`
 */
export async function directAccess(platform: DirectPlatform): Promise<DirectAccess> {
  if (platform === "openbsd") return new (await import("./transport/openbsd-device.js")).OpenbsdAccess();
  const [{ XENIFACE_INTERFACE, XenifaceAccess }, { openWindowsDevice }] = await Promise.all([
    import("./transport/xeniface.js"),
    import("../../src/native/windows/device.js"),
  ]);
  let device: WindowsDevice | undefined;
  try {
    device = openWindowsDevice(XENIFACE_INTERFACE);
  } catch (error) {
    throw fromSystemError(error, {
      doing: "cannot open the XENIFACE driver",
      advice: { EACCES: "it is for administrators" },
    });
  }
  if (device !== undefined) return new XenifaceAccess(device);
  throw pvbusError(
    "ERR_UNAVAILABLE",
    "no XENIFACE device is here; install the Xen PV drivers for Windows (xenbus and xeniface)",
  );
}
