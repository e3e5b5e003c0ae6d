import { createHash } from "node:crypto";
import { isMainThread } from "node:worker_threads";
import { closeMade } from "./descriptor.js";
import type { Koffi } from "./koffi.js";
import type { Libc, NativeFunction } from "./libc.js";
import { fileInMemory, mappings } from "./memory-map.js";

const PAGE_SIZE = 4096;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_NOEXEC_SEAL = 8;
/* linux/fcntl.h. */
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL_SHRINK_GROW_WRITE = 0xf;

const MEM_COMMIT_RESERVE = 0x3000;
const PAGE_READWRITE = 4;
const PAGE_EXECUTE_READ = 0x20;

/**
 * Puts machine code into a page of its own, never writable and executable at once, never unmapped: callers keep
 * functions that point into it. On Linux worker threads share the page of the same code, so that it is there once, however
 * many of them come and go.
 * @returns the page's address
 * @throws Error in words when the system's policy allows none (W^X, SELinux execmem, MemoryDenyWriteExecute)
 */
export function createExecutablePage(code: Buffer, platform: NodeJS.Platform, libc: Libc): bigint {
  if (code.length > PAGE_SIZE) throw new RangeError("the code does not fit one page");
  const page =
    platform === "win32"
      ? windowsPage(code, libc.koffi)
      : ((platform === "linux" ? memoryFilePage(code, libc) : undefined) ??
        anonymousPage(code, platform, libc));
  if (page === undefined) throw new Error("this system's policy forbids executable memory made at run time");
  return page;
}

function mapped(address: unknown): bigint | undefined {
  return typeof address === "bigint" && address !== MAP_FAILED ? address : undefined;
}

/** A file in memory mapped for execution: works under memory-deny-write-execute too. */
function memoryFilePage(code: Buffer, libc: Libc): bigint | undefined {
  const name = `pvbus-${createHash("sha256").update(code).digest("hex").slice(0, 16)}`;
  const there = isMainThread ? undefined : pageOf(name, code, libc.koffi);
  if (there !== undefined) return there;
  const create = libc.function("int memfd_create(const char *, unsigned int)");
  let made = libc.call(create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  // Kernels before 6.3 do not know the flag.
  if (made.rc < 0 && libc.errnoName(made.errno) === "EINVAL")
    made = libc.call(create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const fd = made.rc;
  if (fd < 0) return undefined;
  try {
    const padded = Buffer.alloc(PAGE_SIZE);
    code.copy(padded);
    const { rc } = libc.call(
      libc.function("intptr_t write(int, const void *, size_t)"),
      fd,
      padded,
      PAGE_SIZE,
    );
    if (rc !== PAGE_SIZE) return undefined;
    // From here on nobody who finds the file changes what is executed. A refusal leaves it as it was without seals.
    libc.function("int fcntl(int, int, ...)")(fd, F_ADD_SEALS, "int", F_SEAL_SEAL_SHRINK_GROW_WRITE);
    return mapped(mmapOf(libc)(null, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
  } finally {
    closeMade(libc, fd);
  }
}

/** Returns a page of the same code that another thread made. */
function pageOf(name: string, code: Buffer, koffi: Koffi): bigint | undefined {
  const isSame = (address: bigint): boolean => Buffer.from(koffi.view(address, code.length)).equals(code);
  try {
    return mappings().find(
      (each) => each.name === fileInMemory(name) && each.rights === "r-xp" && isSame(each.start),
    )?.start;
  } catch {
    // Without /proc each thread makes its own.
    return undefined;
  }
}

/** Anonymous memory, written and then made executable instead of writable. */
function anonymousPage(code: Buffer, platform: NodeJS.Platform, libc: Libc): bigint | undefined {
  const mprotect = libc.function("int mprotect(void *, size_t, int)");
  const copy = libc.function("void *memcpy(void *, const void *, size_t)");
  const anonymous = platform === "linux" ? 0x20 : 0x1000;
  const page = mapped(mmapOf(libc)(null, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | anonymous, -1, 0));
  if (page === undefined) return undefined;
  copy(page, code, code.length);
  if (mprotect(page, PAGE_SIZE, PROT_READ | PROT_EXEC) === 0) return page;
  libc.function("int munmap(void *, size_t)")(page, PAGE_SIZE);
  return undefined;
}

function mmapOf(libc: Libc): NativeFunction {
  return libc.function("void *mmap(void *, size_t, int, int, int, int64_t)");
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
