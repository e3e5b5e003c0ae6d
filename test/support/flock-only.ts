import { openLibc } from "../../src/native/ffi/open-libc.js";

/** Takes flock(2) for writing and nothing else, as cloud-init does; gives what releases it. */
export function flockOnly(fd: number): () => void {
  const libc = openLibc();
  const flock = libc.function("int flock(int, int)");
  const { rc, errno } = libc.call(flock, fd, 2 | 4);
  if (rc !== 0) throw libc.systemError("flock", errno);
  return () => {
    flock(fd, 8);
  };
}
