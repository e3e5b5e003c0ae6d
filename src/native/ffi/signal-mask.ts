import type { Libc } from "./libc.js";

/* Linux on x86-64 and arm64: asm-generic/signal.h, and sigset_t of both C libraries. */
const SIG_SETMASK = 2;
const SET_BYTES = 128;
/** SIGILL, SIGBUS, SIGFPE, SIGSEGV: what an instruction itself may raise, which is deadly while it is blocked. */
const RAISED_BY_INSTRUCTIONS = [4, 7, 8, 11];

/**
 * Runs something that takes no time with this thread's signals held back, except those that an instruction may raise. What a
 * child process is sent that it makes is held back there too. What comes meanwhile comes afterwards, or to another thread.
 * @throws what it throws, with the signals as they were; a system error
 */
export function withoutSignals<T>(libc: Libc, run: () => T): T {
  const setMask = libc.function("int pthread_sigmask(int, const void *, void *)");
  const all = Buffer.alloc(SET_BYTES, 0xff);
  for (const signal of RAISED_BY_INSTRUCTIONS) {
    const at = (signal - 1) >> 3;
    all[at] = (all[at] as number) & ~(1 << ((signal - 1) & 7));
  }
  const before = Buffer.alloc(SET_BYTES);
  const refusal = setMask(SIG_SETMASK, all, before);
  if (refusal !== 0) throw libc.systemError("pthread_sigmask", refusal);
  try {
    return run();
  } finally {
    setMask(SIG_SETMASK, before, null);
  }
}
