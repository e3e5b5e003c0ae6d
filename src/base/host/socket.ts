import { connect, type IpcSocketConnectOpts, type Socket } from "node:net";
import type { HeldName } from "./tree.js";

/** What sun_path holds without its NUL: 108 bytes on Linux, 104 elsewhere. Longer ones were cut silently in the past. */
export const MAX_PATH_BYTES = process.platform === "linux" ? 107 : 103;

/** Reports whether a path is too long for a socket. */
export function isTooLong(path: string): boolean {
  return Buffer.byteLength(path) > MAX_PATH_BYTES;
}

/**
 * Begins to connect to a UNIX socket, and lets its place go when that is done; where it fails there is an `error` event as always.
 * @param place as `HostFiles.holdSocket` gives it; that of a socket below a sysroot is short where descriptors have names
 * @throws a system error, `ENAMETOOLONG`
 */
export function connectTo(place: HeldName, options: Omit<IpcSocketConnectOpts, "path"> = {}): Socket {
  const letGo = (): void => place[Symbol.dispose]();
  try {
    if (isTooLong(place.path)) throw tooLong(place.path);
    return connect({ ...options, path: place.path })
      .once("connect", letGo)
      .once("close", letGo);
  } catch (error) {
    letGo();
    throw error;
  }
}

function tooLong(path: string): NodeJS.ErrnoException {
  const message = `ENAMETOOLONG: more than the ${MAX_PATH_BYTES} bytes that a socket's path may have`;
  return Object.assign(new Error(message), { code: "ENAMETOOLONG", syscall: "connect", path });
}
