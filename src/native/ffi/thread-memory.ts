import { readdirSync, readlinkSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import type { Koffi } from "./koffi.js";
import type { Libc } from "./libc.js";
import { createExecutablePage, findMapping, mappings, mappingsOf, mapSharedPage } from "./memory.js";

/*
 * koffi 3.3.4 maps a stack and a heap for each thread that calls it, and never unmaps them (src/koffi/src/ffi.cc: nothing deletes
 * its InstanceData): three mappings and 3 MiB of addresses for each worker that ever was, and a process may have 65,530. A
 * thread that is stopped cannot clean up, so each notes its own in a table that all threads of the process share, a page
 * found by its name, and the next worker that makes a native call unmaps what threads left that are no more. Node ends an
 * environment before its thread, so nobody uses it then.
 *
 * A slot of the table: state i32 at 0, thread i32 at 4, stack u64 at 8, its bytes u64 at 16, heap u64 at 24, its bytes u64
 * at 32. Its thread takes it through the states FREE, WRITING, NOTED, the one that cleans up through TAKEN back to FREE, each
 * begun by a compare-and-exchange.
 */

const TABLE = "pvbus-threads-1";
const TABLE_BYTES = 4096;
const SLOT_BYTES = 64;
const SLOTS = TABLE_BYTES / SLOT_BYTES;
const [FREE, WRITING, NOTED, TAKEN] = [0, 1, 2, 3];

const PAGE_BYTES = 4096n;

/** endbr64; rax=rsp; ret — bti c; x0=sp; ret. */
const STACK_POINTER: Partial<Record<NodeJS.Architecture, string>> = {
  x64: "f30f1efa4889e0c3",
  arm64: "5f2403d5e0030091c0035fd6",
};

/**
 * Has koffi map the memory of each asynchronous call of a worker thread for that call alone: it would keep up to eight. Call it
 * before a library is loaded.
 */
export function limitThreadMemory(koffi: Koffi): void {
  if (isMainThread) return;
  try {
    koffi.config({ resident_async_pools: 0 });
  } catch {
    // The program has used koffi in this thread before.
  }
}

/** Memory of one thread: address and bytes of its stack, then of its heap. */
interface Noted {
  readonly thread: number;
  readonly areas: readonly bigint[];
}

/**
 * Has koffi's memory of this worker thread given back when the thread is no more, and gives back what others left. Call it
 * before any function is called. Does nothing where that cannot be done: then the memory stays.
 */
export function noteThreadMemory(libc: Libc): void {
  const code = STACK_POINTER[process.arch];
  if (isMainThread || process.platform !== "linux" || code === undefined) return;
  try {
    const thread = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
    const tables = openTables(libc);
    for (const table of tables) giveBack(libc, table, thread);
    const areas = ownAreas(libc, code);
    if (areas !== undefined) note(tables, { thread, areas });
  } catch {
    // Without /proc, or under a policy that forbids the page, it stays as koffi leaves it.
  }
}

interface Table {
  readonly words: Int32Array;
  readonly longs: BigUint64Array;
}

/** Returns the process's tables: one, or two where two threads made the first at the same moment. */
function openTables(libc: Libc): readonly Table[] {
  const named = () => mappingsOf(TABLE, "rw-s");
  if (named().length === 0) mapSharedPage(libc, TABLE);
  return named().map(({ start }) => {
    const bytes = libc.koffi.view(start, TABLE_BYTES);
    return { words: new Int32Array(bytes), longs: new BigUint64Array(bytes) };
  });
}

function read({ words, longs }: Table, slot: number): Noted {
  const at = (slot * SLOT_BYTES) / 8;
  return { thread: words[at * 2 + 1] ?? 0, areas: [...longs.subarray(at + 1, at + 5)] };
}

/** Reports whether the state was the one expected, and is the next one now. */
function pass({ words }: Table, slot: number, from: number, to: number): boolean {
  return Atomics.compareExchange(words, (slot * SLOT_BYTES) / 4, from, to) === from;
}

function giveBack(libc: Libc, table: Table, own: number): void {
  const munmap = libc.function("int munmap(uintptr_t, size_t)");
  const isGone = (threads: readonly string[], { thread }: Noted): boolean =>
    threads.includes(String(own)) && !threads.includes(String(thread));
  const before = readdirSync("/proc/self/task");
  for (let slot = 0; slot < SLOTS; slot++) {
    if (!isGone(before, read(table, slot)) || !pass(table, slot, NOTED, TAKEN)) continue;
    // Only now nobody else changes it, and the thread may be a new one of the same number.
    const noted = read(table, slot);
    if (!isGone(readdirSync("/proc/self/task"), noted)) {
      pass(table, slot, TAKEN, NOTED);
      continue;
    }
    const [stack = 0n, stackBytes = 0n, heap = 0n, heapBytes = 0n] = noted.areas;
    munmap(stack, stackBytes);
    munmap(heap, heapBytes);
    pass(table, slot, TAKEN, FREE);
  }
}

function note(tables: readonly Table[], { thread, areas }: Noted): void {
  const slots = Array.from({ length: SLOTS }, (_, slot) => slot);
  const isOwn = (each: Noted): boolean => each.thread === thread && each.areas[0] === areas[0];
  // Two copies of this module in one thread share its koffi.
  if (tables.some((table) => slots.some((slot) => isOwn(read(table, slot))))) return;
  const [table] = tables;
  const slot = table && slots.find((each) => pass(table, each, FREE, WRITING));
  if (table === undefined || slot === undefined) return;
  const at = (slot * SLOT_BYTES) / 8;
  table.words[at * 2 + 1] = thread;
  table.longs.set(areas, at + 1);
  pass(table, slot, WRITING, NOTED);
}

/** Finds this thread's stack and heap of koffi; undefined unless they are exactly what its source says. */
function ownAreas(libc: Libc, code: string): Noted["areas"] | undefined {
  const { koffi } = libc;
  const config = koffi.config();
  const stackBytes = BigInt(config.sync_stack_size as number);
  const heapBytes = BigInt(config.sync_heap_size as number);
  const page = createExecutablePage(Buffer.from(code, "hex"), process.platform, libc);
  const stackPointer = koffi.decode(page, koffi.proto("uintptr_t ()")) as () => number | bigint;
  // A text that is passed is copied to the beginning of the heap.
  const strchr = libc.function("uintptr_t strchr(const char *, int)");
  const heap = BigInt(strchr("x", 120));
  const top = (BigInt(stackPointer()) + PAGE_BYTES - 1n) & -PAGE_BYTES;
  const stack = top - stackBytes - PAGE_BYTES;
  const bytes = stackBytes + 2n * PAGE_BYTES;
  const all = mappings();
  const isGuarded = all.some(
    ({ start, end, rights }) => start === stack && end === stack + PAGE_BYTES && rights === "---p",
  );
  const holds = (from: bigint, to: bigint): boolean => {
    const found = findMapping(all, from);
    return found !== undefined && found.end >= to && found.rights === "rw-p" && found.name === "";
  };
  const isWhole =
    isGuarded &&
    heap % PAGE_BYTES === 0n &&
    holds(stack + PAGE_BYTES, stack + bytes) &&
    holds(heap, heap + heapBytes);
  return isWhole ? [stack, bytes, heap, heapBytes] : undefined;
}
