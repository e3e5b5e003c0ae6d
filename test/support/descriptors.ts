import { closeSync, readdirSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { openLibc } from "../../src/native/ffi/open-libc.js";

const AF_UNIX = 1;
const TYPES = { stream: 1, message: 5 } as const;
/** SOCK_CLOEXEC of Linux: a child process must not keep an end open. */
const SOCK_CLOEXEC = 0x8_0000;

/** Two connected descriptors that keep (`message`) or lose (`stream`) the borders of messages. */
export function socketPair(kind: keyof typeof TYPES): [number, number] {
  const libc = openLibc();
  const ends = Buffer.alloc(8);
  const { rc, errno } = libc.call(
    libc.function("int socketpair(int, int, int, void *)"),
    AF_UNIX,
    TYPES[kind] | SOCK_CLOEXEC,
    0,
    ends,
  );
  if (rc !== 0) throw libc.systemError("socketpair", errno);
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

/** Makes a named pipe. */
export function makeFifo(path: string): void {
  const libc = openLibc();
  const { rc, errno } = libc.call(
    libc.function("int mkfifo(const char *, unsigned int)"),
    path as never,
    0o600,
  );
  if (rc !== 0) throw libc.systemError("mkfifo", errno);
}

/** Number of this process's open descriptors (Linux). */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Closes what may be closed already. */
export function closeIfOpen(fd: number): void {
  try {
    closeSync(fd);
  } catch {
    // It was.
  }
}

let collect: (() => void) | undefined;

/** Collects garbage now. */
export function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
  }
  collect();
}

/** Resolves after one turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
