import { openLibc } from "../ffi/open-libc.js";

/** More than struct termios has anywhere (60 bytes on Linux, 72 on macOS). */
const TERMIOS_BYTES = 256;
/** Index of c_cflag among the 32-bit words, behind c_iflag and c_oflag (macOS has 64-bit ones). */
const CFLAG = 2;
/** Lowers the modem lines when the last program closes the port (asm-generic/termbits.h; sys/_termios.h of the BSDs). */
const HUPCL = process.platform === "linux" ? 0x400 : 0x4000;
const TCSANOW = 0;

/**
 * Makes a terminal pass bytes as they are: no echo, no line editing, no signals, no translation of line ends. The port keeps
 * this mode when it is closed, and its modem lines.
 * @throws a system error: `ENOTTY` for a descriptor that is no terminal, `EIO` for a serial device without hardware;
 *   PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function makeRaw(fd: number): void {
  const libc = openLibc();
  const words = new Uint32Array(TERMIOS_BYTES / 4);
  const termios = Buffer.from(words.buffer);
  libc.must("int tcgetattr(int, void *)", fd, termios);
  libc.function("void cfmakeraw(void *)")(termios);
  if (process.platform !== "darwin") words[CFLAG] = (words[CFLAG] ?? 0) & ~HUPCL;
  libc.must("int tcsetattr(int, int, const void *)", fd, TCSANOW, termios);
}
