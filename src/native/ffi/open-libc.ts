import { type Koffi, type KoffiLoader, loadKoffi, oncePer } from "./koffi.js";
import { Libc } from "./libc.js";
import { limitThreadMemory, noteThreadMemory } from "./thread-memory.js";
import { guardThrows } from "./throw-guard.js";

const libcOf = oncePer((koffi: Koffi): Libc => {
  limitThreadMemory(koffi);
  const libc = new Libc(koffi);
  guardThrows(libc);
  noteThreadMemory(libc);
  return libc;
});

/**
 * Returns the C library of this process; always the same one for the same koffi.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function openLibc(loader: KoffiLoader = loadKoffi): Libc {
  return libcOf(loader());
}
