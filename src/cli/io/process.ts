import { fstatSync, fsyncSync, readSync, writeSync } from "node:fs";
import { pvbusError } from "../../base/errors.js";
import { jsonText, printed, type Sink, stackText, writeError } from "./output.js";

const RETRY_MS = 5;
/** More than any hypervisor's value; an endless input must not fill the memory. */
const MAX_INPUT_BYTES = 64 * 1024 * 1024;

/** Nobody reads the data any more: the program ends quietly, its `finally` blocks done. */
class OutputClosed extends Error {}

/**
 * Returns a sink that writes to a descriptor at once. Node's own streams cost several milliseconds of start-up, more
 * than everything else that a short command does. Messages that nobody reads are dropped, so that the exit code
 * stays the command's own; data that nobody reads ends the command.
 */
export function descriptorSink(fd: number): Sink {
  return {
    get isTTY() {
      return isTerminal(fd);
    },
    write: (data) => {
      const bytes = typeof data === "string" ? Buffer.from(data) : data;
      for (let done = 0; done < bytes.length; ) {
        try {
          done += writeSync(fd, bytes, done);
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          // A terminal that was hung up says EIO.
          if ((code === "EPIPE" || code === "EIO") && fd === 2) return;
          if (code === "EPIPE") throw new OutputClosed();
          if (code !== "EAGAIN") throw error;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
        }
      }
    },
    flush: () => {
      try {
        fsyncSync(fd);
      } catch (error) {
        // What is no file has no disk behind it.
        const { code = "" } = error as NodeJS.ErrnoException;
        if (!["EINVAL", "ENOTSUP", "EROFS", "EPERM"].includes(code)) throw error;
      }
    },
  };
}

/** Only a character device can be a terminal; asking Node's terminal module loads its network code. */
function isTerminal(fd: number): boolean {
  try {
    if (!fstatSync(fd).isCharacterDevice()) return false;
  } catch {
    // A closed descriptor is no terminal.
    return false;
  }
  return (fd === 1 ? process.stdout : process.stderr).isTTY === true;
}

/**
 * Reads a descriptor to its end.
 * @throws PvbusError `ERR_VALUE_TOO_LONG` when it gives more than `maxBytes`
 */
export async function readAll(fd: number, maxBytes = MAX_INPUT_BYTES): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for (let total = 0; ; ) {
    const chunk = Buffer.alloc(65536);
    try {
      const count = readSync(fd, chunk);
      if (count === 0) return Buffer.concat(chunks);
      total += count;
      if (total > maxBytes)
        throw pvbusError(
          "ERR_VALUE_TOO_LONG",
          `the input is longer than ${maxBytes} bytes, which no store takes`,
        );
      chunks.push(chunk.subarray(0, count));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EOF") return Buffer.concat(chunks);
      if (code !== "EAGAIN") throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/**
 * Returns a signal that SIGINT and SIGTERM fire; a second one kills. Only a program that waits in the event loop may
 * ask for it: one that stands in a read or a write of a pipe would never hear of them, while without this they end it.
 */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController();
  for (const each of ["SIGINT", "SIGTERM"] as const) process.once(each, () => controller.abort());
  return controller.signal;
}

/**
 * Runs a command line program in this process: the exit code is set, not forced. What Node would print by itself, of errors that
 * nobody caught and of its own warnings, takes the same way out as all else.
 * @param json everything on standard error is a line of JSON
 */
export function startProcess(name: string, main: () => Promise<number>, json = false): void {
  const stderr = printed(descriptorSink(2));
  const fail = (error: unknown): void => {
    if (error instanceof OutputClosed) return;
    process.exitCode = 1;
    const stack = json ? String((error as Error)?.stack ?? error) : stackText(error);
    if (json) writeError(stderr, { message: "internal error" }, stack);
    else stderr.write(`${name}: internal error: ${stack}\n`);
  };
  process.on("uncaughtException", (error) => {
    fail(error);
    process.exit();
  });
  process.removeAllListeners("warning").on("warning", ({ message: warning }) => {
    stderr.write(json ? `${jsonText({ warning })}\n` : `${name}: warning: ${warning}\n`);
  });
  main().then((code) => {
    process.exitCode = code;
  }, fail);
}
