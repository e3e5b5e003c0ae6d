import { readFileSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { closeMade } from "./descriptor.js";
import type { Koffi } from "./koffi.js";
import { type Libc, windowsFunctions } from "./libc.js";

const PAGE_SIZE = 4096;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const MMAP = "void *mmap(void *, size_t, int, int, int, int64_t)";
const MEMFD_CREATE = "int memfd_create(const char *, unsigned int)";
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_NOEXEC_SEAL = 8;
/* linux/fcntl.h. */
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL_SHRINK_GROW_WRITE = 0xf;

const MEM_COMMIT_RESERVE = 0x3000;
const PAGE_READWRITE = 4;
const PAGE_EXECUTE_READ = 0x20;

/** Memory outside JavaScript's heap, for structures that point into themselves: neither moved nor collected. */
export class NativeBlock implements Disposable {
  readonly address: bigint;
  readonly #koffi: Koffi;
  #bytes: Buffer | undefined;

  /** @param size bytes, zeroed */
  constructor(koffi: Koffi, size: number) {
    this.#koffi = koffi;
    this.address = koffi.alloc("uint8_t", size) as bigint;
    this.#bytes = Buffer.from(koffi.view(this.address, size));
    this.#bytes.fill(0);
  }

  /** Returns the block if it is large enough; else it is released, and a larger one made. */
  static fitting(block: NativeBlock | undefined, koffi: Koffi, size: number): NativeBlock {
    if (block === undefined) return new NativeBlock(koffi, size);
    if (block.#bytes !== undefined && block.#bytes.length >= size) return block;
    block.free();
    return new NativeBlock(koffi, size);
  }

  /** The memory itself: do not keep it. @throws Error after the release */
  get bytes(): Buffer {
    if (this.#bytes === undefined) throw new Error("the block of native memory is released");
    return this.#bytes;
  }

  /** Gives the memory back; may be called twice. */
  free(): void {
    if (this.#bytes === undefined) return;
    this.#bytes = undefined;
    this.#koffi.free(this.address);
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

export interface Mapping {
  readonly start: bigint;
  readonly end: bigint;
  readonly rights: string;
  /** What is mapped; empty for anonymous memory. */
  readonly name: string;
}

/** Returns the mappings of this process (Linux, proc(5)). @throws a system error without /proc */
export function mappings(): Mapping[] {
  const lines = readFileSync("/proc/self/maps", "latin1").split("\n");
  return lines.flatMap((line) => {
    const match = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)$/.exec(line);
    if (match === null) return [];
    const [, start, end, rights = "", name = ""] = match;
    return [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`), rights, name }];
  });
}

export function findMapping(all: readonly Mapping[], address: bigint): Mapping | undefined {
  return all.find(({ start, end }) => start <= address && address < end);
}

/** Returns the mappings of a file in memory: those with these rights. @throws a system error without /proc */
export function mappingsOf(name: string, rights: string): Mapping[] {
  return mappings().filter((each) => each.name === `/memfd:${name} (deleted)` && each.rights === rights);
}

/** Maps a page of a new file in memory that all threads share, writable. @throws a system error */
export function mapSharedPage(libc: Libc, name: string): void {
  const fd = libc.must(MEMFD_CREATE, name, MFD_CLOEXEC);
  try {
    libc.must("int ftruncate(int, int64_t)", fd, PAGE_SIZE);
    libc.function(MMAP)(null, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  } finally {
    closeMade(libc, fd);
  }
}

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
  // What other threads find by it they compare: no digest, whose module costs a start several milliseconds.
  const name = `pvbus-code-${code.length}`;
  const there = isMainThread ? undefined : pageOf(name, code, libc.koffi);
  if (there !== undefined) return there;
  let made = libc.call(MEMFD_CREATE, name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  // Kernels before 6.3 do not know the flag.
  if (made.rc < 0 && libc.errnoName(made.errno) === "EINVAL")
    made = libc.call(MEMFD_CREATE, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const fd = made.rc;
  if (fd < 0) return undefined;
  try {
    const padded = Buffer.alloc(PAGE_SIZE);
    code.copy(padded);
    const written = libc.function("intptr_t write(int, const void *, size_t)")(fd, padded, PAGE_SIZE);
    if (written !== PAGE_SIZE) return undefined;
    // From here on nobody who finds the file changes what is executed. A refusal leaves it as it was without seals.
    libc.function("int fcntl(int, int, ...)")(fd, F_ADD_SEALS, "int", F_SEAL_SEAL_SHRINK_GROW_WRITE);
    return mapped(libc.function(MMAP)(null, PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
  } finally {
    closeMade(libc, fd);
  }
}

/** Returns a page of the same code that another thread made. */
function pageOf(name: string, code: Buffer, koffi: Koffi): bigint | undefined {
  const isSame = (address: bigint): boolean => Buffer.from(koffi.view(address, code.length)).equals(code);
  try {
    return mappingsOf(name, "r-xp").find(({ start }) => isSame(start))?.start;
  } catch {
    // Without /proc each thread makes its own.
    return undefined;
  }
}

/** Anonymous memory, written and then made executable instead of writable. */
function anonymousPage(code: Buffer, platform: NodeJS.Platform, libc: Libc): bigint | undefined {
  const flags = MAP_PRIVATE | (platform === "linux" ? 0x20 : 0x1000);
  const page = mapped(libc.function(MMAP)(null, PAGE_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0));
  if (page === undefined) return undefined;
  libc.function("void *memcpy(void *, const void *, size_t)")(page, code, code.length);
  const mprotect = libc.function("int mprotect(void *, size_t, int)");
  if (mprotect(page, PAGE_SIZE, PROT_READ | PROT_EXEC) === 0) return page;
  libc.function("int munmap(void *, size_t)")(page, PAGE_SIZE);
  return undefined;
}

function windowsPage(code: Buffer, koffi: Koffi): bigint | undefined {
  const kernel = windowsFunctions(koffi, "kernel32.dll", {
    alloc: "void * VirtualAlloc(void *, size_t, uint32_t, uint32_t)",
    protect: "int32_t VirtualProtect(void *, size_t, uint32_t, void *)",
    flush: "int32_t FlushInstructionCache(intptr_t, const void *, size_t)",
    copy: "void RtlMoveMemory(void *, const void *, size_t)",
  });
  const page: unknown = kernel.alloc(null, PAGE_SIZE, MEM_COMMIT_RESERVE, PAGE_READWRITE);
  if (typeof page !== "bigint") return undefined;
  kernel.copy(page, code, code.length);
  if (kernel.protect(page, PAGE_SIZE, PAGE_EXECUTE_READ, Buffer.alloc(4)) === 0) return undefined;
  kernel.flush(-1, page, code.length);
  return page;
}
