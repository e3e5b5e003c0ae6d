import { Call } from "../../../src/bus/call.js";
import { PvbusError } from "../../../src/bus/errors.js";
import { lockFile, tryLockFile } from "../../../src/native/file-lock.js";
import type { Locker } from "../pool-file.js";

/** How long another program may keep the daemon from a pool. The drivers give up after 5 s (FreeBSD) and 30 s (Linux). */
export const PATIENCE_MS = 2_000;

/**
 * Gives the daemon's way to lock: it waits for a while, then for writers only. Whoever may read a pool can hold a read
 * lock for ever, and the vendor's daemon with it; no edit of ours leaves a record unreadable, so a reader who overstays loses
 * nothing but the stillness of the file. Programs with flock(2) alone, which the vendor's daemon does not see at all, are
 * waited for as long.
 */
export function patientLocker(patienceMs: number = PATIENCE_MS): Locker {
  return async (fd, { mode, call }) => {
    try {
      return await lockFile(fd, { mode, call: new Call({ signal: call.signal, timeoutMs: patienceMs }) });
    } catch (error) {
      if (!(PvbusError.is(error) && error.code === "ERR_TIMEOUT")) throw error;
      const beside = tryLockFile(fd, { mode: "shared", flock: false });
      if (beside === undefined) throw error;
      return beside;
    }
  };
}
