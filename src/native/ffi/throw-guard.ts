import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";
import { koffiBinary } from "./koffi.js";
import type { Libc } from "./libc.js";
import { createExecutablePage, findMapping, mappings } from "./memory.js";

/*
 * worker.terminate() may come while koffi 3.3.4 is in the middle of declaring something. From then on Node-API refuses to run
 * JavaScript. koffi wants to throw that, napi_throw is refused as well, and node-addon-api takes the refusal for fatal and ends
 * the process (Error::ThrowAsJavaScriptException in koffi's vendor/node-addon-api/napi-inl.h), unless it is built with
 * NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS; koffi is not. It goes on with empty values then, which have no environment, and
 * what it does with them fails, of which Error::New makes an error without one, which is fatal as well.
 *
 * So koffi gets functions that say of just these refusals that all is well, in the slots of its own table of imported
 * functions: the table lies in writable memory, and all threads share it. What is left: a type object that is stopped right
 * before its use (koffi.decode of a prototype): koffi does not ask whether it got one, and the process dies of SIGSEGV. This may
 * go with the first koffi that survives the tests of terminate() in test/native/workers.test.ts without it.
 */

/** Machine code in front of a function of Node-API, which ends in an address of that function, and constants behind that. */
type Stand = readonly [code: string, constants?: string];

/** endbr64; sub rsp,8; call [rip+13]; add rsp,8; xor ecx,ecx; cmp eax,23 (napi_cannot_run_js); cmove eax,ecx; ret. */
const THROW = "f30f1efa4883ec08ff150d0000004883c40831c983f8170f44c1c3";

/** endbr64; push r9; call [rip+15]; pop r9; cmp eax,23; jne to the last; mov qword [r9],0; ret. */
const CREATE_FUNCTION = "f30f1efa4151ff150f000000415983f817750749c70100000000c3";

/** endbr64; test rdi,rdi; jne to the last; what is done without an environment; xor eax,eax; ret; jmp [rip]. */
function withoutEnvironment(code = ""): string {
  const bytes = (code.length / 2 + 3).toString(16).padStart(2, "0");
  return `f30f1efa4885ff75${bytes}${code}31c0c3ff2500000000`;
}

/** x86-64 alone: there is no other machine that this could be tried on. */
const STANDS: Readonly<Record<string, Stand>> = {
  napi_throw: [THROW],
  // koffi uses what it has not got, whatever was in that variable before.
  napi_create_function: [CREATE_FUNCTION],
  // lea rax,[rip+20]; mov [rsi],rax: an napi_extended_error_info of zeros.
  napi_get_last_error_info: [withoutEnvironment("488d0514000000488906"), "00".repeat(24)],
  // mov byte [rsi],0.
  napi_is_exception_pending: [withoutEnvironment("c60600")],
  napi_create_string_utf8: [withoutEnvironment()],
  napi_create_error: [withoutEnvironment()],
  napi_open_handle_scope: [withoutEnvironment()],
  napi_close_handle_scope: [withoutEnvironment()],
  napi_open_escapable_handle_scope: [withoutEnvironment()],
  napi_close_escapable_handle_scope: [withoutEnvironment()],
};

const RTLD_LAZY_NOLOAD_NODELETE = 0x1 | 0x4 | 0x1000;

/**
 * Lets a worker thread end at any moment, also within koffi. Call it before much is declared. It leaves everything as it is
 * where anything is not as expected, or no executable memory may be made.
 */
export function guardThrows(libc: Libc): void {
  const binary = koffiBinary(libc.koffi);
  if (process.platform !== "linux" || process.arch !== "x64" || binary === undefined) return;
  // Told to the workers that this thread starts from then on: they need not look.
  const guarded = `pvbus guards ${binary}`;
  if (getEnvironmentData(guarded) === true) return;
  const guard = (): void => {
    try {
      replaceImports(libc, binary);
      setEnvironmentData(guarded, true);
    } catch {
      // Without /proc, or under a policy that forbids the page, it stays as koffi has it.
    }
  };
  // A process without workers need not take the time, some milliseconds.
  if (isMainThread) process.once("worker", guard);
  else guard();
}

interface Slot {
  readonly cell: BigUint64Array;
  /** What it held, koffi's own way to the function before the first call. */
  readonly held: bigint;
  readonly real: bigint;
  readonly stand: Stand;
}

function replaceImports(libc: Libc, binary: string): void {
  const slots = findSlots(libc, binary);
  if (slots === undefined || slots.length === 0) return;
  const pieces = slots.map(({ stand: [code, constants = ""], real }) => {
    const target = Buffer.alloc(8);
    target.writeBigUInt64LE(real);
    return Buffer.concat([Buffer.from(code, "hex"), target, Buffer.from(constants, "hex")]);
  });
  const page = createExecutablePage(Buffer.concat(pieces), process.platform, libc);
  // glibc would unload koffi with the last thread that has it, and load it as its file is for the next one.
  const dlopen = libc.function("uintptr_t dlopen(const char *, int)");
  if (BigInt(dlopen(binary, RTLD_LAZY_NOLOAD_NODELETE)) === 0n) return;
  let address = page;
  for (const [at, { cell, held }] of slots.entries()) {
    Atomics.compareExchange(cell, 0, held, address);
    address += BigInt((pieces[at] as Buffer).length);
  }
}

/** Finds the slots that hold what they should; undefined when there is anything unexpected, or when all of them are replaced. */
function findSlots(libc: Libc, binary: string): readonly Slot[] | undefined {
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
  const addresses = importSlots({ base, read });
  const dlsym = libc.function("uintptr_t dlsym(uintptr_t, const char *)");
  const slots: Slot[] = [];
  for (const [name, stand] of Object.entries(STANDS)) {
    const slot = addresses.get(name);
    if (slot === undefined || slot % 8 !== 0 || !isOwn(slot, 8, /^rw-p/)) return undefined;
    const cell = new BigUint64Array(koffi.view(BigInt(slot), 8));
    const held = Atomics.load(cell, 0);
    const real = BigInt(dlsym(0, name));
    // Another thread or another copy of this module was here before, or somebody unknown.
    if (real === 0n || (held !== real && !isOwn(Number(held), 1, /^r-xp/))) return undefined;
    slots.push({ cell, held, real, stand });
  }
  return slots;
}

/** A 64-bit little-endian ELF object as it lies in memory. */
export interface ElfImage {
  readonly base: number;
  /** Returns bytes at an address. @throws Error where nothing is to be read */
  read(address: number, bytes: number): Buffer;
}

const ELF_64_LITTLE_1 = Buffer.from("7f454c46020101", "hex");
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const [DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_STRSZ, DT_PLTREL, DT_JMPREL] = [2, 5, 6, 7, 10, 20, 23];
const DYNAMIC_BYTES = 16;
const RELA_BYTES = 24;
const SYMBOL_BYTES = 24;
/** R_X86_64_JUMP_SLOT and R_AARCH64_JUMP_SLOT, by e_machine. */
const JUMP_SLOT: Readonly<Record<number, number>> = { 62: 7, 183: 1026 };

/**
 * Finds the slots through which an object calls imported functions (ELF gABI, dynamic linking).
 * @returns their addresses by the functions' names; none of what is no such object
 * @throws Error when the object points outside of what may be read
 */
export function importSlots(image: ElfImage): ReadonlyMap<string, number> {
  const slots = new Map<string, number>();
  const header = image.read(image.base, HEADER_BYTES);
  const jumpSlot = JUMP_SLOT[header.readUInt16LE(18)];
  if (!header.subarray(0, ELF_64_LITTLE_1.length).equals(ELF_64_LITTLE_1) || jumpSlot === undefined)
    return slots;
  const dynamic = readDynamic(image, header);
  if (dynamic?.get(DT_PLTREL) !== DT_RELA) return slots;
  const area = (at: number, bytes: number): Buffer => {
    const address = dynamic.get(at) ?? 0;
    // glibc has added the base to what it found here, musl has not.
    return image.read(address < image.base ? image.base + address : address, bytes);
  };
  const entries = rowsOf(area(DT_JMPREL, dynamic.get(DT_PLTRELSZ) ?? 0), RELA_BYTES).map((row) => ({
    offset: Number(row.readBigUInt64LE(0)),
    type: row.readUInt32LE(8),
    symbol: row.readUInt32LE(12),
  }));
  const last = entries.reduce((most, entry) => Math.max(most, entry.symbol), 0);
  const symbols = area(DT_SYMTAB, (last + 1) * SYMBOL_BYTES);
  const names = area(DT_STRTAB, dynamic.get(DT_STRSZ) ?? 0);
  for (const { offset, type, symbol } of entries) {
    const name = symbols.readUInt32LE(symbol * SYMBOL_BYTES);
    const end = names.indexOf(0, name);
    if (type === jumpSlot && end > name) slots.set(names.toString("latin1", name, end), image.base + offset);
  }
  return slots;
}

/** Returns the values of the dynamic section by their tags. */
function readDynamic(image: ElfImage, header: Buffer): ReadonlyMap<number, number> | undefined {
  const first = Number(header.readBigUInt64LE(32));
  const [each, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
  if (each !== PROGRAM_HEADER_BYTES) return undefined;
  const headers = rowsOf(image.read(image.base + first, each * count), each).map((row) => ({
    type: row.readUInt32LE(0),
    address: Number(row.readBigUInt64LE(16)),
    bytes: Number(row.readBigUInt64LE(40)),
  }));
  const dynamic = headers.find(({ type }) => type === PT_DYNAMIC);
  // Only then the base is where the object's first page is.
  if (dynamic === undefined || headers.find(({ type }) => type === PT_LOAD)?.address !== 0) return undefined;
  const values = new Map<number, number>();
  for (const row of rowsOf(image.read(image.base + dynamic.address, dynamic.bytes), DYNAMIC_BYTES)) {
    const tag = Number(row.readBigUInt64LE(0));
    if (tag === 0) break;
    values.set(tag, Number(row.readBigUInt64LE(8)));
  }
  return values;
}

function rowsOf(table: Buffer, bytes: number): Buffer[] {
  const count = Math.floor(table.length / bytes);
  return Array.from({ length: count }, (_, index) => table.subarray(index * bytes, (index + 1) * bytes));
}
