import { connect, type IpcSocketConnectOpts, type Socket } from "node:net";
import type { HeldName } from "./tree.js";

/**
 * Begins to connect to a UNIX socket, and lets its place go when that is done; where it fails there is an `error` event as always.
 * @param place as `HostFiles.holdSocket` gives it
 */
export function connectTo(place: HeldName, options: Omit<IpcSocketConnectOpts, "path"> = {}): Socket {
  const letGo = (): void => place[Symbol.dispose]();
  try {
    return connect({ ...options, path: place.path })
      .once("connect", letGo)
      .once("close", letGo);
  } catch (error) {
    letGo();
    throw error;
  }
}
