import type { Koffi } from "./koffi.js";

const PAGE_SIZE = 4096;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const MFD_CLOEXEC = 1;
const MFD_NOEXEC_SEAL = 8;

const MEM_COMMIT_RESERVE = 0x3000;
const PAGE_READWRITE = 4;
const PAGE_EXECUTE_READ = 0x20;

/**
 * Puts machine code into a page of its own, never writable and executable at once, never unmapped: callers keep
 * functions that point into it.
 * @returns the page's address
 * @throws Error in words when the system's policy allows none (W^X, SELinux execmem, MemoryDenyWriteExecute)
 */
export function createExecutablePage(code: Buffer, platform: NodeJS.Platform, koffi: Koffi): bigint {
  if (code.length > PAGE_SIZE) throw new RangeError("the code does not fit one page");
  const page =
    platform === "win32"
      ? windowsPage(code, koffi)
      : ((platform === "linux" ? memoryFilePage(code, koffi) : undefined) ??
        anonymousPage(code, platform, koffi));
  if (page === undefined) throw new Error("this system's policy forbids executable memory made at run time");
  return page;
}

interface Libc {
  readonly mmap: (
    addr: null,
    size: number,
    prot: number,
    flags: number,
    fd: number,
    offset: number,
  ) => unknown;
  readonly munmap: (addr: bigint, size: number) => number;
}

function memory(koffi: Koffi): Libc {
  const libc = koffi.load(null);
  return {
    mmap: libc.func("void *mmap(void *, size_t, int, int, int, int64_t)"),
    munmap: libc.func("int munmap(void *, size_t)"),
  };
}

function mapped(address: unknown): bigint | undefined {
  return typeof address === "bigint" && address !== MAP_FAILED ? address : undefined;
}

/** A file in memory mapped for execution: works under memory-deny-write-execute too. */
function memoryFilePage(code: Buffer, koffi: Koffi): bigint | undefined {
  const libc = koffi.load(null);
  const create = libc.func("int memfd_create(const char *, unsigned int)");
  const write = libc.func("intptr_t write(int, const void *, size_t)");
  const close = libc.func("int close(int)");
  let fd: number = create("pvbus", MFD_CLOEXEC | MFD_NOEXEC_SEAL);
  // Kernels before 6.3 do not know the sealing flag.
  if (fd < 0 && koffi.errno() === koffi.os.errno["EINVAL"]) fd = create("pvbus", MFD_CLOEXEC);
  if (fd < 0) return undefined;
  const padded = Buffer.alloc(PAGE_SIZE);
  code.copy(padded);
  const whole = Number(write(fd, padded, padded.length)) === padded.length;
  const page = whole
    ? mapped(memory(koffi).mmap(null, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0))
    : undefined;
  close(fd);
  return page;
}

/** Anonymous memory, written and then made executable instead of writable. */
function anonymousPage(code: Buffer, platform: NodeJS.Platform, koffi: Koffi): bigint | undefined {
  const { mmap, munmap } = memory(koffi);
  const libc = koffi.load(null);
  const mprotect = libc.func("int mprotect(void *, size_t, int)");
  const copy = libc.func("void *memcpy(void *, const void *, size_t)");
  const anonymous = platform === "linux" ? 0x20 : 0x1000;
  const page = mapped(mmap(null, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | anonymous, -1, 0));
  if (page === undefined) return undefined;
  copy(page, code, code.length);
  if (mprotect(page, PAGE_SIZE, PROT_READ | PROT_EXEC) === 0) return page;
  munmap(page, PAGE_SIZE);
  return undefined;
}

function windowsPage(code: Buffer, koffi: Koffi): bigint | undefined {
  const kernel = koffi.load("kernel32.dll");
  const alloc = kernel.func("void *__stdcall VirtualAlloc(void *, size_t, uint32_t, uint32_t)");
  const protect = kernel.func("int32_t __stdcall VirtualProtect(void *, size_t, uint32_t, _Out_ uint32_t *)");
  const flush = kernel.func("int32_t __stdcall FlushInstructionCache(intptr_t, const void *, size_t)");
  const copy = kernel.func("void __stdcall RtlMoveMemory(void *, const void *, size_t)");
  const page: unknown = alloc(null, PAGE_SIZE, MEM_COMMIT_RESERVE, PAGE_READWRITE);
  if (typeof page !== "bigint") return undefined;
  copy(page, code, code.length);
  if (protect(page, PAGE_SIZE, PAGE_EXECUTE_READ, [0]) === 0) return undefined;
  flush(-1, page, code.length);
  return page;
}
