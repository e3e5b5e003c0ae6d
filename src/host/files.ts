import fs, { constants } from "node:fs";
import { type Held, type HeldName, holdBelow, holdNameBelow } from "./tree.js";

/** What a place may be. */
export type FileKind = "file" | "directory" | "socket" | "device" | "pipe";

/** How a file is opened, see {@link HostFiles.open}. */
export interface FileOpening {
  /** `fs.constants`; O_NONBLOCK and O_NOCTTY are always set, O_CREAT is not taken. */
  readonly flags: number;
  /** What it must be; anything else is not opened. */
  readonly kind: FileKind;
}

/**
 * The files, devices and sockets of the machine, or of the directory that stands for it: the one way to them. Paths are those of
 * the machine (`/dev/xen/xenbus`). Below a sysroot nothing outside of it is ever opened, whatever the tree holds and whoever
 * changes it meanwhile; links lead to where they would lead if it were `/`.
 *
 * Nothing here waits: what is no regular file is not read, a FIFO is not opened. All methods throw the file system's errors, but
 * for what is not there.
 */
export interface HostFiles {
  /** Tells what is at a path, links followed; undefined when there is nothing, or nothing that one may look at. */
  kind(absolute: string): FileKind | undefined;
  /** Gives the sorted names in a directory; none when there is no such directory. */
  names(absolute: string): string[];
  /**
   * Reads a regular file up to `maxBytes` bytes, its stated size (0 in sysfs) set aside; undefined when it is not there or is
   * no regular file.
   */
  read(absolute: string, maxBytes: number): Buffer | undefined;
  /**
   * Opens what is there; the descriptor is the caller's.
   * @throws a system error, `ENOENT` when it is not there, `EINVAL` when it is of another kind
   */
  open(absolute: string, opening: FileOpening): number;
  /** Holds what is there, for system calls that take a path: connect, watch, access. Let it go with `using`. */
  hold(absolute: string): Held | undefined;
  /** Holds the directory of a name, for what is made, renamed or removed there; undefined without that directory. */
  holdName(absolute: string): HeldName | undefined;
}

const FIRST_BYTES = 4096;
/** Opening must neither wait for a peer nor make a terminal ours. Not there on Windows. */
const SAFE_FLAGS = (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);

/** Gives the files of the live machine, or of the directory that stands for it. */
export function hostFiles(sysroot: string | undefined): HostFiles {
  const hold = (absolute: string): Held | undefined =>
    sysroot === undefined ? holdLive(absolute) : holdBelow(sysroot, absolute);
  const open = (absolute: string, { flags, kind }: FileOpening): number => {
    using held = hold(absolute);
    if (held === undefined) throw failure("ENOENT", "no such file or directory", absolute);
    return openHeld(held, absolute, flags, kind);
  };
  return {
    hold,
    open,
    holdName: (absolute) => (sysroot === undefined ? nameLive(absolute) : holdNameBelow(sysroot, absolute)),
    kind: (absolute) => {
      try {
        using held = hold(absolute);
        return held && kindOf(held.stats);
      } catch {
        return undefined;
      }
    },
    names: (absolute) => {
      using held = hold(absolute);
      return held?.stats.isDirectory() ? fs.readdirSync(held.path).sort() : [];
    },
    read: (absolute, maxBytes) => {
      using held = hold(absolute);
      if (!held?.stats.isFile()) return undefined;
      const fd = openHeld(held, absolute, constants.O_RDONLY, "file");
      try {
        return readUpTo(fd, maxBytes);
      } finally {
        fs.closeSync(fd);
      }
    },
  };
}

function holdLive(path: string): Held | undefined {
  try {
    const stats = fs.statSync(path, { throwIfNoEntry: false });
    return stats && { path, stats, [Symbol.dispose]: () => undefined };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw error;
  }
}

function nameLive(path: string): HeldName {
  return { path, [Symbol.dispose]: () => undefined };
}

/** The kind is looked at before, since opening alone sets some devices going, and afterwards, since a live name may have changed. */
function openHeld(held: Held, absolute: string, flags: number, kind: FileKind): number {
  if (kindOf(held.stats) !== kind) throw failure("EINVAL", `it is no ${kind}`, absolute);
  const fd = fs.openSync(held.path, flags | SAFE_FLAGS);
  try {
    if (kindOf(fs.fstatSync(fd)) !== kind) throw failure("EINVAL", `it is no ${kind}`, absolute);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

function kindOf(stats: fs.Stats): FileKind {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  if (stats.isSocket()) return "socket";
  return stats.isFIFO() ? "pipe" : "device";
}

function readUpTo(fd: number, maxBytes: number): Buffer {
  let bytes = Buffer.allocUnsafe(Math.min(FIRST_BYTES, maxBytes));
  let length = 0;
  while (length < maxBytes) {
    if (length === bytes.length) bytes = Buffer.concat([bytes], Math.min(bytes.length * 4, maxBytes));
    const count = fs.readSync(fd, bytes, length, bytes.length - length, null);
    if (count === 0) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

function failure(code: string, what: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${what}, open '${path}'`), { code, syscall: "open", path });
}
