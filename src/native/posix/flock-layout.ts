/**
 * Which record locks the system has: `ofd` belong to the open file (Linux), `posix` to the process and vanish when it
 * closes any descriptor of the file.
 */
export type RecordLockKind = "ofd" | "posix";

/** struct flock: where its fields are and what its constants are called (sys/fcntl.h of each system). */
export interface FlockLayout {
  readonly size: number;
  readonly type: number;
  readonly whence: number;
  readonly pid: number;
  readonly shared: number;
  readonly exclusive: number;
  readonly unlock: number;
  readonly getLock: number;
  readonly setLock: number;
  /** The same, waiting. */
  readonly waitLock: number;
}

const LINUX_POSIX: FlockLayout = {
  size: 32,
  type: 0,
  whence: 2,
  pid: 24,
  shared: 0,
  exclusive: 1,
  unlock: 2,
  getLock: 5,
  setLock: 6,
  waitLock: 7,
};
const LINUX_OFD: FlockLayout = { ...LINUX_POSIX, getLock: 36, setLock: 37, waitLock: 38 };
const FREEBSD: FlockLayout = {
  size: 32,
  type: 20,
  whence: 22,
  pid: 16,
  shared: 1,
  exclusive: 3,
  unlock: 2,
  getLock: 11,
  setLock: 12,
  waitLock: 13,
};
const OPENBSD: FlockLayout = { ...FREEBSD, size: 24, getLock: 7, setLock: 8, waitLock: 9 };

/** Returns the kind of record lock that a system has. */
export function recordLockKind(platform: NodeJS.Platform): RecordLockKind {
  return platform === "linux" ? "ofd" : "posix";
}

/** Returns the layout that a system has for a kind of record lock. */
export function layoutOf(platform: NodeJS.Platform, kind: RecordLockKind): FlockLayout {
  if (platform === "linux") return kind === "ofd" ? LINUX_OFD : LINUX_POSIX;
  return platform === "openbsd" || platform === "netbsd" ? OPENBSD : FREEBSD;
}

/** Requests over a whole file: zeroes elsewhere mean from the start to the end. */
export interface Requests {
  readonly shared: Buffer;
  readonly exclusive: Buffer;
  readonly unlock: Buffer;
}

const prepared = new Map<FlockLayout, Requests>();

/** Returns the prepared requests of a layout; the kernel only reads them. */
export function requestsOf(layout: FlockLayout): Requests {
  let made = prepared.get(layout);
  if (made === undefined) {
    made = {
      shared: request(layout, layout.shared),
      exclusive: request(layout, layout.exclusive),
      unlock: request(layout, layout.unlock),
    };
    prepared.set(layout, made);
  }
  return made;
}

/** Makes a request over the whole file. */
export function request(layout: FlockLayout, type: number): Buffer {
  const block = Buffer.alloc(layout.size);
  block.writeInt16LE(type, layout.type);
  return block;
}
