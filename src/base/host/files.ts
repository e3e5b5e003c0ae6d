import fs, { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { systemError } from "../system-error.js";
import { type Held, type HeldName, holdBelow, holdNameBelow, type Walker } from "./tree.js";

/** What a place may be. */
export type FileKind = "file" | "directory" | "socket" | "device" | "pipe";

/** How a file is opened, see {@link HostFiles.open}. */
export interface FileOpening {
  /** `fs.constants`; O_NONBLOCK and O_NOCTTY are always set, O_CREAT is not taken. */
  readonly flags: number;
  /** What it must be; anything else is not opened. */
  readonly kind: FileKind | readonly FileKind[];
  /**
   * Whether somebody named this very device. A device node leads to a device of this machine wherever it lies, so below a sysroot
   * one that was merely found is not opened. Default false.
   */
  readonly isNamed?: boolean | undefined;
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
  /** Reports what is at a path, links followed; undefined when there is nothing, or nothing that one may look at. */
  kind(absolute: string): FileKind | undefined;
  /** Returns the sorted names in a directory, 65,536 at most below a sysroot; none when there is no such directory. */
  names(absolute: string): string[];
  /**
   * Reads a regular file up to `maxBytes` bytes, its stated size (0 in sysfs) set aside; undefined when it is not there or is
   * no regular file.
   */
  read(absolute: string, maxBytes: number): Buffer | undefined;
  /**
   * Opens a regular file for whoever reads it piece by piece; undefined when it is not there.
   * @throws a system error, `EINVAL` when it is no regular file
   */
  reader(absolute: string): Promise<FileHandle | undefined>;
  /**
   * Opens what is there; the descriptor is the caller's.
   * @throws a system error, `ENOENT` when it is not there, `EINVAL` when it is of another kind, `EXDEV` for a device below a
   *   sysroot that nobody named
   */
  open(absolute: string, opening: FileOpening): number;
  /** Holds what is there, for system calls that take a path: watch, access. Let it go with `using`. */
  hold(absolute: string): Held | undefined;
  /** Holds the directory of a name, for what is made, renamed or removed there; undefined without that directory. */
  holdName(absolute: string): HeldName | undefined;
  /**
   * Holds a socket for connect(2).
   * @throws a system error, `ENOENT` when it is not there, below a sysroot `ECONNREFUSED` when it is no socket
   */
  holdSocket(absolute: string): HeldName;
}

/** What to do about `EXDEV`. */
export const FOUND_DEVICE_ADVICE =
  "below a sysroot too a device is one of this very machine; to open it, name it as a channel";

const FIRST_BYTES = 4096;
/** Opening must neither wait for a peer nor make a terminal ours. Not there on Windows. */
const SAFE_FLAGS = (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0);
/** As many as fw_cfg can have items; no other directory that is looked at has nearly so many. */
const MAX_NAMES = 65_536;

/** Returns the files of the live machine, or of the directory that stands for it. @param walkerIn stands in for the system's walk */
export function hostFiles(sysroot: string | undefined, walkerIn?: (root: string) => Walker): HostFiles {
  return sysroot === undefined ? LIVE : filesBelow(sysroot, walkerIn);
}

/** Reads what is held up to `maxBytes` bytes; nothing of what is no regular file. */
export function readHeld(held: Held, maxBytes: number): Buffer {
  if (!held.stats.isFile()) return Buffer.alloc(0);
  const fd = openHeld(held, held.path, { flags: constants.O_RDONLY, kind: "file" });
  try {
    return readUpTo(fd, maxBytes);
  } finally {
    fs.closeSync(fd);
  }
}

type Places = Pick<HostFiles, "hold" | "holdName" | "holdSocket" | "names"> & {
  /** Whether a device that nobody named may be opened. */
  readonly opensDevices: boolean;
};

function filesAt(places: Places): HostFiles {
  const { hold, holdName, holdSocket, names, opensDevices } = places;
  return {
    hold,
    holdName,
    holdSocket,
    names,
    kind: (absolute) => {
      try {
        using held = hold(absolute);
        return held && kindOf(held.stats);
      } catch {
        return undefined;
      }
    },
    read: (absolute, maxBytes) => {
      using held = hold(absolute);
      return held?.stats.isFile() ? readHeld(held, maxBytes) : undefined;
    },
    reader: async (absolute) => {
      using held = hold(absolute);
      if (held === undefined) return undefined;
      if (!held.stats.isFile()) throw systemError("EINVAL", "it is no file", "open", absolute);
      const handle = await fs.promises.open(held.path, constants.O_RDONLY | SAFE_FLAGS);
      try {
        checkOpened(held, await handle.stat(), absolute);
        return handle;
      } catch (error) {
        await handle.close();
        throw error;
      }
    },
    open: (absolute, opening) => {
      using held = hold(absolute);
      if (held === undefined) throw systemError("ENOENT", "no such file or directory", "open", absolute);
      if (kindOf(held.stats) === "device" && !opensDevices && opening.isNamed !== true)
        throw systemError("EXDEV", "a device of this very machine, which nobody named", "open", absolute);
      return openHeld(held, absolute, opening);
    },
  };
}

const LIVE = filesAt({
  opensDevices: true,
  hold: (path) => {
    if (path.includes("\0")) return undefined;
    try {
      const stats = fs.statSync(path, { throwIfNoEntry: false });
      return stats && { path, stats, isLive: true, [Symbol.dispose]: nothing };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
      throw error;
    }
  },
  holdName: (path) => ({ path, [Symbol.dispose]: nothing }),
  // To look at a named pipe of Windows is to open it.
  holdSocket: (path) => ({ path, [Symbol.dispose]: nothing }),
  names: (path) => {
    try {
      return fs.existsSync(path) ? fs.readdirSync(path).sort() : [];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return [];
      throw error;
    }
  },
});

function filesBelow(root: string, walkerIn?: (root: string) => Walker): HostFiles {
  const hold = (absolute: string): Held | undefined => holdBelow(root, absolute, walkerIn?.(root));
  return filesAt({
    opensDevices: false,
    hold,
    holdName: (absolute) => holdNameBelow(root, absolute, walkerIn?.(root)),
    holdSocket: (absolute) => {
      const held = hold(absolute);
      if (held === undefined) throw systemError("ENOENT", "no such file or directory", "connect", absolute);
      if (held.stats.isSocket()) return held;
      held[Symbol.dispose]();
      throw systemError("ECONNREFUSED", "it is no socket", "connect", absolute);
    },
    names: (absolute) => {
      using held = hold(absolute);
      return held?.stats.isDirectory() ? namesUpTo(held.path, MAX_NAMES) : [];
    },
  });
}

function openHeld(held: Held, absolute: string, { flags, kind }: FileOpening): number {
  // Looked at before too, since to open some devices sets them going.
  const found = kindOf(held.stats);
  if (typeof kind === "string" ? kind !== found : !kind.includes(found))
    throw systemError("EINVAL", `it is no ${kind}`, "open", absolute);
  const fd = fs.openSync(held.path, (flags & ~constants.O_CREAT) | SAFE_FLAGS);
  try {
    checkOpened(held, fs.fstatSync(fd), absolute);
    return fd;
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** What is held by its name alone may have been replaced by now; on the live machine that is any file's right. */
function checkOpened({ stats, isLive }: Held, opened: fs.Stats, absolute: string): void {
  const isSame = opened.ino === stats.ino && opened.dev === stats.dev;
  if (isSame || (isLive === true && kindOf(opened) === kindOf(stats))) return;
  throw systemError("EAGAIN", "it was replaced while it was opened", "open", absolute);
}

function kindOf(stats: fs.Stats): FileKind {
  if (stats.isFile()) return "file";
  if (stats.isDirectory()) return "directory";
  if (stats.isSocket()) return "socket";
  return stats.isFIFO() ? "pipe" : "device";
}

function namesUpTo(path: string, most: number): string[] {
  const directory = fs.opendirSync(path, { bufferSize: 256 });
  try {
    const names: string[] = [];
    for (
      let entry = directory.readSync();
      entry !== null && names.length < most;
      entry = directory.readSync()
    )
      names.push(entry.name);
    return names.sort();
  } finally {
    directory.closeSync();
  }
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

function nothing(): void {
  // Nothing is held where names are as good as what they stand for.
}
