import { PvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { lockFile, tryLockFile } from "../../../src/native/posix/file-lock.js";
import type { Locker } from "../transport/files/file.js";

/** How long readers may keep the daemon from a change. */
export const PATIENCE_MS = 2_000;

/**
 * Returns the daemon's way to lock. Writers, flock(2) alone included (cloud-init), are waited for until the call's end: what is
 * refused then is a pair lost, as the host sends it once. Readers are waited for a while only: whoever may read a pool can
 * hold a shared lock for ever, and the vendor's daemon with it; no edit of ours leaves a record unreadable, so a reader who
 * overstays loses nothing but the stillness of the file. Writers stay shut out meanwhile, since we hold what the readers hold.
 */
export function patientLocker(patienceMs: number = PATIENCE_MS): Locker {
  return async (fd, { mode, call }) => {
    if (mode === "shared") return lockFile(fd, { mode, call, helper: true });
    for (;;) {
      const patience =
        call.remainingMs <= patienceMs ? call : new Call({ signal: call.signal, timeoutMs: patienceMs });
      try {
        return await lockFile(fd, { mode, call: patience, helper: true });
      } catch (error) {
        if (!(PvbusError.is(error) && error.code === "ERR_TIMEOUT")) throw error;
        const beside = tryLockFile(fd, { mode: "shared" });
        if (beside !== undefined) return beside;
        if (call.isOver) throw error;
      }
    }
  };
}
