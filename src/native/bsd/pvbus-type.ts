import { isSystemError } from "../../base/system-error.js";
import type { Koffi } from "../ffi/koffi.js";
import { openPvbusDevice } from "./pvbus-device.js";

/** Asks an OpenBSD pvbus device for its type; undefined when it cannot be opened or has none. */
export function readPvbusType(koffi: Koffi, path: string): string | undefined {
  try {
    using device = openPvbusDevice(path, { koffi: () => koffi });
    return device.type();
  } catch (error) {
    if (isSystemError(error)) return undefined;
    throw error;
  }
}
