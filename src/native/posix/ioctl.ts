import type { Libc, NativeArgument } from "../ffi/libc.js";

/**
 * Calls ioctl(2) on this thread: for requests that return at once.
 * @param block the argument: bytes, or the address of a block that outlives the call
 * @returns what it returns, zero or more
 * @throws a system error
 */
export function ioctl(libc: Libc, fd: number, request: number, block: Uint8Array | bigint): number {
  // Variadic, as it is on every system: a fixed declaration passes the argument elsewhere on some.
  const declared = libc.function("int ioctl(int, unsigned long, ...)");
  const argument: NativeArgument = block;
  const { rc, errno } = libc.call(declared, fd, request, "void *", argument);
  if (rc < 0) throw libc.systemError("ioctl", errno);
  return rc;
}
