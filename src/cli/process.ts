import { fstatSync, readSync, writeSync } from "node:fs";
import type { Sink } from "./output.js";

const RETRY_MS = 5;

/**
 * Gives a sink that writes to a descriptor at once. Node's own streams cost several milliseconds of start-up, more
 * than everything else that a short command does.
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
          if (code === "EPIPE") process.exit();
          if (code !== "EAGAIN") throw error;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
        }
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

/** Reads a descriptor to its end. */
export async function readAll(fd: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const chunk = Buffer.alloc(65536);
    try {
      const count = readSync(fd, chunk);
      if (count === 0) return Buffer.concat(chunks);
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
 * Runs a command line program in this process: the exit code is set, not forced; SIGINT and SIGTERM fire the signal,
 * a second one kills.
 */
export function startProcess(name: string, main: (signal: AbortSignal) => Promise<number>): void {
  const controller = new AbortController();
  for (const each of ["SIGINT", "SIGTERM"] as const) process.once(each, () => controller.abort());
  main(controller.signal).then(
    (code) => {
      process.exitCode = code;
    },
    (error: unknown) => {
      const detail = error instanceof Error ? error.stack : String(error);
      descriptorSink(2).write(`${name}: internal error: ${detail}\n`);
      process.exitCode = 1;
    },
  );
}
