import { textIn } from "../ffi/c-text.js";
import type { Koffi } from "../ffi/koffi.js";

const BUFFER_SIZE = 4096;
/** Reads one variable (FreeBSD sys/kenv.h). */
const KENV_GET = 0;

/** Reads a variable of FreeBSD's kernel environment; undefined when there is none. Not verified by a run. */
export function readKenv(koffi: Koffi, name: string): string | undefined {
  const buffer = Buffer.alloc(BUFFER_SIZE);
  const kenv = koffi.load(null).func("int kenv(int, const char *, void *, int)");
  return kenv(KENV_GET, name, buffer, buffer.length) < 0 ? undefined : textIn(buffer);
}
