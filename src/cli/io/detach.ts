import { spawn } from "node:child_process";
import { closeSync, writeSync } from "node:fs";
import { processEnvironment } from "../../base/host/environment.js";

/** Set in the environment of a process that is to go on in the background. */
export const DETACHED = "PVBUS_DETACHED";
/** Descriptor on which the background process says how its start went. */
const REPORT_FD = 3;
const LONGEST_REPORT = 65536;
const READY = "ready";

/**
 * Starts the same program again in the background, in a session of its own, its standard streams closed and `/` its
 * working directory as daemon(3) does it, and waits until it serves.
 * @param args script and arguments of this process
 * @param foreground the option that keeps it in the foreground
 * @param complain hears why it does not serve
 * @returns the exit code: 0 when it serves, 1 when it said why not, or ended
 */
export function detach(
  args: readonly string[],
  foreground: string,
  complain: (why: string) => void,
): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    cwd: "/",
    detached: true,
    env: { ...processEnvironment(), [DETACHED]: "1" },
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const report = child.stdio[REPORT_FD] as NodeJS.ReadableStream & { destroy(): void };
  return new Promise((resolve) => {
    let text = "";
    const fail = (why: string): void => {
      complain(why);
      resolve(1);
    };
    child.on("error", (error) => fail(error.message));
    report.on("data", (chunk: Buffer) => {
      text = (text + chunk.toString("utf8")).slice(0, LONGEST_REPORT);
    });
    report.on("end", () => {
      child.unref();
      if (text === READY) resolve(0);
      else
        fail(text || `the background process ended before it served; run it with ${foreground} to see why`);
    });
  });
}

/** Tells the waiting parent, once: that the service is ready, or why it is not. */
export function tellParent(failure = READY): void {
  try {
    writeSync(REPORT_FD, failure);
    closeSync(REPORT_FD);
  } catch {
    // Told before, or the parent is gone: nobody waits.
  }
}
