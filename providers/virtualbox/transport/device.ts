import { pvbusError } from "../../../src/base/errors.js";
import { parseChannel } from "../../../src/base/host/channel.js";
import { FOUND_DEVICE_ADVICE } from "../../../src/base/host/files.js";
import type { Host } from "../../../src/base/host/host.js";
import { fromSystemError, isSystemError } from "../../../src/base/system-error.js";
import type { StoreTarget } from "../../../src/contract/provider.js";
import type { NativeBlock } from "../../../src/native/ffi/memory.js";
import { IoctlFile } from "../../../src/native/posix/ioctl-file.js";
import { openWindowsFile, type WindowsFile } from "../../../src/native/windows/device.js";
import type { DriverEnding, DriverFile, DriverMemory } from "./driver-file.js";

/** The driver's nodes: the second one is for users where a rule of the system says so. */
export const DRIVER_NODES: readonly string[] = ["/dev/vboxguest", "/dev/vboxuser"];
const WINDOWS_NAME = String.raw`\\.\VBoxGuest`;
/** Other nodes may do. */
const NEXT: readonly string[] = ["ENOENT", "EACCES", "EPERM", "ENODEV", "ENXIO"];
/* fcntl.h of every system. */
const O_RDONLY = 0;
const NO_ACCESS: readonly string[] = ["EACCES", "EPERM"];

/**
 * Opens the driver: the device that the target names, `device:PATH`, else `/dev/vboxguest`, else `/dev/vboxuser`.
 * @throws PvbusError `ERR_UNAVAILABLE` where there is none, `ERR_PERMISSION` where none may be opened; `ERR_NOT_SUPPORTED` for a
 *   channel that is no device, and on systems that pass arguments otherwise
 */
export function openDriverFile(host: Host, { channel }: StoreTarget): DriverFile {
  const named =
    channel === undefined
      ? undefined
      : parseChannel(channel, { of: "VirtualBox", kinds: { device: true } as const }, host).path;
  if (host.platform === "win32") return openWindows(named ?? WINDOWS_NAME);
  let refused: unknown;
  for (const node of named === undefined ? DRIVER_NODES : [named]) {
    let fd: number;
    try {
      // To read is enough for every request, and more users may.
      fd = host.files.open(node, {
        flags: O_RDONLY,
        kind: "device",
        isNamed: named !== undefined,
      });
    } catch (error) {
      if (!isSystemError(error)) throw error;
      if (named !== undefined || !NEXT.includes(error.code ?? "")) throw cannotOpen(host.path(node), error);
      if (NO_ACCESS.includes(error.code ?? "")) refused ??= cannotOpen(host.path(node), error);
      continue;
    }
    return new PosixDriverFile(host.path(node), new IoctlFile(fd));
  }
  throw refused ?? noDriver();
}

function cannotOpen(node: string, error: unknown): unknown {
  return fromSystemError(error, {
    doing: `cannot open ${node}`,
    codes: {
      ENOENT: "ERR_UNAVAILABLE",
      ENODEV: "ERR_UNAVAILABLE",
      ENXIO: "ERR_UNAVAILABLE",
      EXDEV: "ERR_UNAVAILABLE",
    },
    advice: {
      EACCES: "run as root, or have a udev rule open /dev/vboxuser to users as VirtualBox's additions do",
      EXDEV: FOUND_DEVICE_ADVICE,
      default: "see `pvbus doctor`",
    },
  });
}

function noDriver(): Error {
  return pvbusError(
    "ERR_UNAVAILABLE",
    `there is neither ${DRIVER_NODES.join(" nor ")}: the driver is not loaded, or this is no VirtualBox; run: modprobe vboxguest`,
  );
}

/** The driver of Linux, of VirtualBox's additions, and of FreeBSD's port of them. */
class PosixDriverFile implements DriverFile {
  readonly name: string;
  readonly bits = 64;
  readonly system = "posix";
  readonly #file: IoctlFile;

  constructor(name: string, file: IoctlFile) {
    this.name = name;
    this.#file = file;
  }

  allocate(size: number): NativeBlock {
    return this.#file.allocate(size);
  }

  request(number: number, memory: DriverMemory): Promise<string | undefined> {
    return this.#file.request(number, memory);
  }

  wait(number: number, memory: DriverMemory, _: number, ending: DriverEnding): Promise<string | undefined> {
    return this.#file.wait(number, memory, ending);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** The additions' driver on Windows. Not verified by a run: its codes and the buffer that goes both ways are the reference's. */
function openWindows(path: string): DriverFile {
  const file: WindowsFile = openWindowsFile(path);
  const request = async (number: number, memory: DriverMemory, size: number): Promise<string | undefined> => {
    try {
      const answer = await file.control(number, memory.bytes.subarray(0, size), size);
      answer.copy(memory.bytes);
      return undefined;
    } catch (error) {
      if (isSystemError(error)) return error.code ?? "EIO";
      throw error;
    }
  };
  return {
    name: path,
    bits: file.pointerBytes === 8 ? 64 : 32,
    system: "windows",
    allocate: (size) => file.allocate(size),
    request,
    // One request at a time for each file: what would end the wait stands behind it.
    wait: request,
    close: () => file.close(),
  };
}
