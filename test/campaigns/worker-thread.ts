/** A worker thread of the workers campaign: begins its job, and ends as it was told, nothing closed. */
import { constants, openSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { Call, openPvbus } from "../../src/index.js";
import { lockFile, tryLockFile } from "../../src/native/posix/file-lock.js";
import { openPollable } from "../../src/native/posix/pollable.js";
import type { Assignment, End, Job } from "./workers.js";

const { job, end, endAfterMs, paths } = workerData as Assignment;

/** A terminal that something comes from all the time, and one whose other end nobody has. */
async function poll(): Promise<void> {
  const flags = constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK;
  const ignore = (): void => undefined;
  for (const path of [paths.terminal, paths.terminal, "/dev/ptmx"])
    openPollable(openSync(path, flags), { bufferBytes: 64, onData: ignore, onEnd: ignore }).unref();
}

/** One file that the main thread holds the lock of, and one that is free most of the time. */
async function lock(): Promise<void> {
  const call = new Call({ timeoutMs: 300 });
  const contested = openSync(paths.contested, "r+");
  tryLockFile(contested, { mode: "exclusive" });
  await lockFile(openSync(paths.held, "r+"), { mode: "exclusive", helper: true, call }).catch(
    () => undefined,
  );
}

async function readSerial(): Promise<void> {
  const bus = await openPvbus({ interfaces: [{ type: "KVM", channel: `serial:${paths.serial}` }] });
  await bus.primary?.read("meta/key", { timeoutMs: 3_000 });
}

async function readPool(): Promise<void> {
  const bus = await openPvbus({ sysroot: paths.sysroot, interfaces: [{ type: "Hyper-V" }] });
  await bus.primary?.write(`Guest/${job}`, "value");
  await bus.primary?.read(`Guest/${job}`);
}

const jobs: Readonly<Record<Job, () => Promise<void>>> = { poll, lock, readSerial, readPool };
const ends: Readonly<Record<End, () => void>> = {
  // The thread ends with its last line, what was begun in its own time.
  return: () => undefined,
  exit: () => process.exit(0),
  throw: () => {
    throw new Error("as it was told");
  },
  terminate: () => undefined,
};

const running = jobs[job]();
if (end === "exit" || end === "throw") setTimeout(ends[end], endAfterMs);
parentPort?.postMessage("begun");
await running;
parentPort?.postMessage("done");
ends[end]();
