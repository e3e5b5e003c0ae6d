import type { Koffi } from "../ffi/koffi.js";
import { windowsFunctions } from "../ffi/libc.js";

/** "RSMB", the raw SMBIOS provider (sysinfoapi.h). */
const RSMB = 0x52534d42;
/** Calling method, versions, revision and length precede the table. */
const HEADER_SIZE = 8;

/** Reads Windows' SMBIOS structure table; undefined when there is none. Not verified by a run. */
export function readFirmwareTable(koffi: Koffi): Buffer | undefined {
  const { get } = windowsFunctions(koffi, "kernel32.dll", {
    get: "uint32_t GetSystemFirmwareTable(uint32_t, uint32_t, void *, uint32_t)",
  });
  const size = get(RSMB, 0, null, 0);
  if (size <= HEADER_SIZE) return undefined;
  const bytes = Buffer.alloc(size);
  const written = get(RSMB, 0, bytes, size);
  return written > HEADER_SIZE && written <= size ? bytes.subarray(HEADER_SIZE, written) : undefined;
}
