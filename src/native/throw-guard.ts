import { isMainThread } from "node:worker_threads";
import { importSlot } from "./elf-import.js";
import { createExecutablePage } from "./executable-page.js";
import { koffiBinary } from "./koffi.js";
import type { Libc } from "./libc.js";
import { findMapping, mappings } from "./memory-map.js";

/*
 * worker.terminate() may come while koffi 3.3.4 is in the middle of declaring something. From then on Node-API refuses to run
 * JavaScript, koffi wants to throw that, napi_throw is refused as well, and node-addon-api takes the refusal for fatal and ends
 * the process (Error::ThrowAsJavaScriptException in koffi's vendor/node-addon-api/napi-inl.h), unless it is built with
 * NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS: then it returns. koffi is not. So we give it a napi_throw that says of this one
 * refusal, napi_cannot_run_js, that it is fine, in the slot of koffi's own table of imported functions: it lies in writable
 * memory, and all threads share it. This may go with the first koffi that is built with that flag; the tests of terminate()
 * in test/native/workers.test.ts tell.
 */

/** A function that calls the address at its end, and returns 0 in place of 23, napi_cannot_run_js. */
const CODE: Partial<Record<NodeJS.Architecture, string>> = {
  // endbr64; sub rsp,8; call [rip+18]; add rsp,8; xor ecx,ecx; cmp eax,23; cmove eax,ecx; ret; 5 times nop
  x64: "f30f1efa4883ec08ff15120000004883c40831c983f8170f44c1c39090909090",
  // bti c; stp x29,x30,[sp,-16]!; mov x29,sp; ldr x16,+28; blr x16; cmp w0,23; csel w0,wzr,w0,eq; ldp x29,x30,[sp],16; ret; nop
  arm64: "5f2403d5fd7bbfa9fd030091f000005800023fd61f5c0071e003801afd7bc1a8c0035fd61f2003d5",
};

const RTLD_LAZY_NOLOAD_NODELETE = 0x1 | 0x4 | 0x1000;

/**
 * Lets a worker thread end at any moment, also within koffi. Call it before much is declared. It leaves everything as it is
 * where anything is not as expected, or no executable memory may be made.
 */
export function guardThrows(libc: Libc): void {
  const code = CODE[process.arch];
  const binary = koffiBinary(libc.koffi);
  if (process.platform !== "linux" || code === undefined || binary === undefined) return;
  const guard = (): void => {
    try {
      replaceThrow(libc, code, binary);
    } catch {
      // Without /proc, or under a policy that forbids the page, it stays as koffi has it.
    }
  };
  // A process without workers need not take the time, about a millisecond.
  if (isMainThread) process.once("worker", guard);
  else guard();
}

function replaceThrow(libc: Libc, code: string, binary: string): void {
  const { koffi } = libc;
  const own = mappings().filter(({ name }) => name === binary);
  const isOwn = (address: number, bytes: number, rights: RegExp): boolean => {
    const mapping = findMapping(own, BigInt(address));
    return mapping !== undefined && BigInt(address + bytes) <= mapping.end && rights.test(mapping.rights);
  };
  const base = Number(own[0]?.start ?? 0);
  const read = (address: number, bytes: number): Buffer => {
    if (!isOwn(address, bytes, /^r/)) throw new RangeError("outside of koffi");
    return Buffer.from(koffi.view(BigInt(address), bytes));
  };
  const slot = importSlot({ base, read }, "napi_throw");
  if (slot === undefined || slot % 8 !== 0 || !isOwn(slot, 8, /^rw-p/)) return;
  const cell = new BigUint64Array(koffi.view(BigInt(slot), 8));
  const dlsym = libc.function("uintptr_t dlsym(uintptr_t, const char *)");
  const napiThrow = BigInt(dlsym(0, "napi_throw"));
  if (Atomics.load(cell, 0) !== napiThrow) bindThrow(libc);
  // Another thread or another copy of this module was here before, or the unknown.
  if (Atomics.load(cell, 0) !== napiThrow) return;
  const target = Buffer.alloc(8);
  target.writeBigUInt64LE(napiThrow);
  const page = createExecutablePage(
    Buffer.concat([Buffer.from(code, "hex"), target]),
    process.platform,
    libc,
  );
  // glibc would unload koffi with the last thread that has it, and load it as its file is for the next one.
  const dlopen = libc.function("uintptr_t dlopen(const char *, int)");
  if (BigInt(dlopen(binary, RTLD_LAZY_NOLOAD_NODELETE)) === 0n) return;
  Atomics.compareExchange(cell, 0, napiThrow, page);
}

/** Has koffi throw: a slot holds no function before its first call. */
function bindThrow({ koffi }: Libc): void {
  try {
    (koffi.sizeof as (...args: never[]) => unknown)();
  } catch {
    // On purpose.
  }
}
