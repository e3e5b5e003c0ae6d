import { type Koffi, type KoffiLoader, loadKoffi } from "./koffi.js";
import { Libc } from "./libc.js";
import { limitThreadMemory, noteThreadMemory } from "./thread-memory.js";
import { guardThrows } from "./throw-guard.js";

const opened = new WeakMap<Koffi, Libc>();

/**
 * Returns the C library of this process; always the same one for the same koffi.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function openLibc(loader: KoffiLoader = loadKoffi): Libc {
  const koffi = loader();
  let libc = opened.get(koffi);
  if (libc === undefined) {
    limitThreadMemory(koffi);
    libc = new Libc(koffi);
    guardThrows(libc);
    noteThreadMemory(libc);
    opened.set(koffi, libc);
  }
  return libc;
}
