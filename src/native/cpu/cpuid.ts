import { closeSync, openSync, readSync } from "node:fs";
import type { Cpuid, CpuidReader, CpuidRegisters } from "../../base/firmware/cpuid.js";
import type { KoffiLoader } from "../ffi/koffi.js";
import { createExecutablePage } from "../ffi/memory.js";
import { openLibc } from "../ffi/open-libc.js";

/*
 * void cpuid(uint32 leaf, uint32 subleaf, uint32 out[4]), a leaf function: no stack change, RBX parked in R9.
 * System V: endbr64; r8=rdx; r9=rbx; eax=edi; ecx=esi; cpuid; store four; rbx=r9; ret. Win64: the same with ECX, EDX, R8.
 */
const SYSTEM_V = "f30f1efa4989d04989d989f889f10fa241890041895804418948084189500c4c89cbc3";
const WIN64 = "f30f1efa4989d989c889d10fa241890041895804418948084189500c4c89cbc3";

/** arch_prctl's number and its question whether CPUID may be executed (Linux arch/x86, asm/prctl.h). */
const SYS_ARCH_PRCTL = 158;
const ARCH_GET_CPUID = 0x1011;

/** Where Linux's `cpuid` module answers for the first processor; readable by root. */
const CPUID_DEVICE = "/dev/cpu/0/cpuid";

/** What {@link openCpuid} looks at. */
export interface CpuidOptions {
  readonly platform?: NodeJS.Platform;
  readonly arch?: NodeJS.Architecture;
  readonly koffi?: KoffiLoader;
  readonly device?: string;
}

let opened: Cpuid | undefined;

/**
 * Returns a way to execute CPUID in this process without privileges, else the kernel's device for it (Linux, root),
 * else the reason why there is none. Never throws; the instruction is not executed where it could fault.
 */
export function openCpuid(options: CpuidOptions = {}): Cpuid {
  if (Object.keys(options).length > 0) return open(options);
  opened ??= open(options);
  return opened;
}

function open(options: CpuidOptions): Cpuid {
  const { platform = process.platform, arch = process.arch } = options;
  if (arch !== "x64") return { unreadable: `${arch} has no CPUID instruction` };
  if (platform === "openbsd")
    return { unreadable: "OpenBSD allows no code made at run time; its pvbus devices answer" };
  let why: string;
  try {
    return { read: openThunk(platform, options.koffi) };
  } catch (error) {
    why = error instanceof Error ? error.message : String(error);
  }
  const device = platform === "linux" ? openDevice(options.device ?? CPUID_DEVICE) : undefined;
  return device === undefined ? { unreadable: why } : { read: device };
}

function openThunk(platform: NodeJS.Platform, loader: KoffiLoader | undefined): CpuidReader {
  const libc = openLibc(loader);
  const { koffi } = libc;
  if (platform === "linux") {
    const syscall = libc.function("long syscall(long, ...)");
    if (syscall(SYS_ARCH_PRCTL, "int", ARCH_GET_CPUID, "ulong", 0) === 0)
      throw new Error("CPUID faults in this process");
  }
  const code = Buffer.from(platform === "win32" ? WIN64 : SYSTEM_V, "hex");
  const page = createExecutablePage(code, platform, libc);
  const thunk = koffi.decode(page, koffi.proto("void (uint32_t leaf, uint32_t subleaf, void *out)"));
  const out = new Uint32Array(4);
  return (leaf, subleaf = 0) => {
    thunk(leaf >>> 0, subleaf >>> 0, out);
    return registersIn(out);
  };
}

/**
 * Returns a reader over Linux's CPUID device: 16 bytes at position leaf, sub-leaf in the upper 32 bits (Linux
 * arch/x86/kernel/cpuid.c). About 40 µs a leaf; no descriptor stays open.
 * @returns undefined when it cannot be read: not root, module not loaded, or no such device
 */
function openDevice(path: string): CpuidReader | undefined {
  const out = new Uint32Array(4);
  const read: CpuidReader = (leaf, subleaf = 0) => {
    const fd = openSync(path, "r");
    try {
      const count = readSync(fd, out, 0, 16, (BigInt(subleaf >>> 0) << 32n) | BigInt(leaf >>> 0));
      if (count !== 16) throw new Error(`${path} gave ${count} bytes in place of 16`);
    } finally {
      closeSync(fd);
    }
    return registersIn(out);
  };
  try {
    read(0);
    return read;
  } catch {
    // The caller has a reason of its own to tell, and this way was only the second.
    return undefined;
  }
}

function registersIn([eax = 0, ebx = 0, ecx = 0, edx = 0]: Uint32Array): CpuidRegisters {
  return { eax, ebx, ecx, edx };
}
