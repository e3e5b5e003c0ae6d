import type { Call } from "../base/flow/call.js";

/**
 * The key-value call of one interface with the semantics of OpenBSD's kernel driver (pvbus(4), `PVBUSIOC_KVREAD` and
 * `PVBUSIOC_KVWRITE`): what hostctl(8) talks to. Source: OpenBSD sys/dev/pv/pvbus.c, vmt.c, xenstore.c, hypervic.c.
 */
export interface HostctlStore {
  /**
   * Reads a key into a buffer of `valueLength` bytes.
   * @returns the value without its NUL
   * @throws HostctlError with the driver's errno, `ERANGE` when the buffer is too small
   */
  read(key: Uint8Array, valueLength: number, call: Call): Promise<Uint8Array>;
  /**
   * Writes a key.
   * @returns what the driver leaves in the value buffer, which hostctl prints
   * @throws HostctlError with the driver's errno
   */
  write(key: Uint8Array, value: Uint8Array, call: Call): Promise<Uint8Array>;
}
