import { isUtf8 } from "node:buffer";
import { nativeKey, parseKey, parsePrefix } from "../../../providers/hyperv/protocol/keys.js";
import {
  checkOpenbsdPair,
  checkPair,
  FILE_LIMITS,
  HOST_LIMITS,
} from "../../../providers/hyperv/protocol/limits.js";
import {
  decodeRecord,
  encodeRecord,
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  HV_KVP_EXCHANGE_MAX_VALUE_SIZE,
  isUnfilled,
  RECORD_SIZE,
  scrubRecord,
} from "../../../providers/hyperv/protocol/record.js";
import { decodeNote, encodeNote, NOTE_AT, type Note } from "../../../providers/hyperv/protocol/undo-note.js";
import type { PoolBytes } from "../../../providers/hyperv/transport/files/edit.js";
import { indexKey, PoolIndex } from "../../../providers/hyperv/transport/files/record-index.js";
import { needsRepair, repairPool } from "../../../providers/hyperv/transport/files/repair.js";
import { openbsdPools } from "../../../providers/hyperv/transport/openbsd-device.js";
import { registryPools } from "../../../providers/hyperv/transport/registry.js";
import { Call } from "../../../src/base/flow/call.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import type { RegistryKey } from "../../../src/native/windows/registry.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

/** Bytes of one record, zeros where the input ends. */
function recordFrom(input: Input): Buffer {
  const record = Buffer.alloc(RECORD_SIZE);
  const valueAt = HV_KVP_EXCHANGE_MAX_KEY_SIZE;
  input.take(2 * input.byte()).copy(record);
  input.take(9 * input.byte()).copy(record, valueAt);
  return record;
}

function record(input: Input): void {
  const bytes = Buffer.concat([recordFrom(input), recordFrom(input)]);
  const at = input.pick([0, RECORD_SIZE]);
  const { key, value } = decodeRecord(bytes, at);
  holds(key.length <= HV_KVP_EXCHANGE_MAX_KEY_SIZE, "a key longer than its field");
  holds(value.length <= HV_KVP_EXCHANGE_MAX_VALUE_SIZE, "a value longer than its field");
  isUnfilled(bytes, at);
  if (key.length < HV_KVP_EXCHANGE_MAX_KEY_SIZE && value.length < HV_KVP_EXCHANGE_MAX_VALUE_SIZE)
    same(decodeRecord(encodeRecord({ key, value })), { key, value }, "a record written and read");
  const scrubbed = Buffer.from(bytes);
  scrubRecord(scrubbed, at);
  same(decodeRecord(scrubbed, at), { key, value }, "a record without what followed its strings");
  holds(!scrubRecord(scrubbed, at), "a scrubbed record has something to scrub");
}

/** A pool whose keys come from few names, so that some stand in it twice. */
function index(input: Input): void {
  const names = [input.field(), input.field(), Buffer.from("a"), Buffer.alloc(0)];
  const records: Buffer[] = [];
  const last = new Map<string, number>();
  for (let slot = 0; slot < 32 && input.left > 0; slot++) {
    const bytes = input.flag() ? recordFrom(input) : Buffer.alloc(RECORD_SIZE);
    const name = input.pick(names);
    if (bytes[0] === 0) name.copy(bytes);
    records.push(bytes);
    const { key } = decodeRecord(bytes);
    if (key.length > 0) last.set(Buffer.from(key).toString("latin1"), slot * RECORD_SIZE);
  }
  const whole = new PoolIndex();
  whole.addChunk(Buffer.concat(records), 0);
  const inChunks = new PoolIndex();
  for (const [slot, bytes] of records.entries()) inChunks.addChunk(bytes, slot * RECORD_SIZE);
  same([...whole.last], [...last], "where the keys of a pool stand");
  same([...inChunks.last], [...whole.last], "the index by records");
  same(inChunks.unused, whole.unused, "the unused slots by records");
  for (const key of last.keys()) {
    const text = Buffer.from(key, "latin1").toString("utf8");
    if (isUtf8(Buffer.from(key, "latin1")))
      same(whole.offsetOf(text), last.get(indexKey(text)), "where a key stands");
    else whole.offsetOf(text);
    whole.find(text, false);
  }
}

function noteFrom(input: Input): Note {
  const number = (): number => (input.flag() ? input.word() : input.below(16));
  const [at, count, width, sum, before] = [number(), number(), number(), number(), number()];
  const gaps = Array.from({ length: input.below(6) }, () => ({ slot: number(), count: number() }));
  return { at, count, width, sum, before, copies: input.flag(), gaps };
}

function note(input: Input): void {
  if (input.flag()) {
    const made = noteFrom(input);
    const bytes = Buffer.alloc(RECORD_SIZE);
    encodeNote(made).copy(bytes, NOTE_AT);
    same(decodeNote(bytes), made, "a note written and read");
    return;
  }
  const bytes = Buffer.alloc(RECORD_SIZE);
  input.rest().copy(bytes, NOTE_AT + 1);
  const found = decodeNote(bytes);
  if (found !== undefined) same(decodeNote(recordOf(found)), found, "a note read, written and read");
}

function recordOf(found: Note): Buffer {
  const bytes = Buffer.alloc(RECORD_SIZE);
  encodeNote(found).copy(bytes, NOTE_AT);
  return bytes;
}

/** A pool file in memory. */
class Image implements PoolBytes {
  bytes: Buffer;
  readonly #most: number;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.#most = bytes.length;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(into: Buffer, offset: number): void {
    holds(this.bytes.copy(into, 0, offset) === into.length, "a repair reads beyond the end");
  }

  write(bytes: Uint8Array, offset: number): void {
    if (offset + bytes.length > this.size) this.resize(offset + bytes.length);
    this.bytes.set(bytes, offset);
  }

  resize(size: number): void {
    // Copies of what moves stand behind the last record for a while.
    holds(size <= 2 * this.#most + 2 * RECORD_SIZE, "a repair lets the file grow");
    const resized = Buffer.alloc(size);
    this.bytes.copy(resized);
    this.bytes = resized;
  }
}

/** Enough for any pool of so few slots. */
const MOST_STEPS = 10_000;
const MOST_REPAIRS = 8;

/** Notes of any content in a pool: whatever they say, repairs end, and none is left to be done. */
function repair(input: Input): void {
  const slots: Buffer[] = [];
  const durable = input.flag();
  const closeStrays = input.flag();
  const tail = input.below(4) === 0 ? input.take(100) : Buffer.alloc(0);
  while (slots.length < 24 && input.left > 0) {
    const kind = input.below(4);
    if (kind === 0) slots.push(Buffer.alloc(RECORD_SIZE));
    else if (kind === 1) slots.push(fitting(noteFrom(input)));
    else slots.push(recordFrom(input));
  }
  const pool = new Image(Buffer.concat([...slots, tail]));
  for (let round = 0; ; round++) {
    const index = new PoolIndex();
    const whole = pool.size - (pool.size % RECORD_SIZE);
    index.addChunk(pool.bytes.subarray(0, whole), 0);
    const findings = { unused: index.unused, closeStrays };
    if (!needsRepair(pool.size, findings)) return;
    holds(round < MOST_REPAIRS, "there is always something left to repair");
    const steps = repairPool(pool, findings, durable);
    for (let count = 0; steps.next().done !== true; count++)
      holds(count < MOST_STEPS, "a repair does not end");
  }
}

function fitting(made: Note): Buffer {
  try {
    return recordOf(made);
  } catch (error) {
    if (error instanceof RangeError) return Buffer.alloc(RECORD_SIZE);
    throw error;
  }
}

function keys(input: Input): void {
  const limits = input.pick([HOST_LIMITS, FILE_LIMITS]);
  const value = input.field();
  const front = input.pick(["", "Guest/", "Guest/Parameters/", "auto/", "EXTERNAL/"]);
  const text = front + input.rest16();
  refusing(() => parsePrefix(text));
  refusing(() => checkPair(text, value, limits));
  refusing(() => checkOpenbsdPair(text, value));
  const { pool, key } = parseKey(text);
  holds(Buffer.byteLength(key) <= HV_KVP_EXCHANGE_MAX_KEY_SIZE, "a key longer than its field");
  same(parseKey(nativeKey(pool, key)), { pool, key }, "a key put together and taken apart");
}

/** A refusal of one function does not keep the next one from its turn. */
function refusing(check: () => void): void {
  try {
    check();
  } catch (error) {
    if ((error as { code?: string }).code === undefined || error instanceof TypeError) throw error;
  }
}

const PARAMETERS = { name: "Guest/Parameters", number: 3, guestWritable: false } as const;

/** Values of Windows' registry: any type, any length, text with or without an end. */
async function registry(input: Input): Promise<void> {
  const name = input.word16();
  const value = { name, type: input.below(12), data: input.flag() ? input.rest() : undefined };
  const key = { query: () => value, values: () => [value], close: () => undefined };
  const pools = registryPools(
    nodeHost({ env: {} }).logger,
    { create: false },
    () => key as unknown as RegistryKey,
  );
  const pool = pools.pool(PARAMETERS);
  const listed = await pool.snapshot("", new Call());
  const read = await pool.read(name, new Call());
  holds(read !== undefined && !read.includes(0), "a value with a NUL");
  if (name !== "") same(listed.get(name)?.value, read, "a value listed and read");
}

const note1 = (): Buffer =>
  encodeNote({ at: 1, count: 2, width: 1, sum: 7, before: 9, copies: false, gaps: [] });

/** OpenBSD's kernel hands out names and values as the host set them. */
async function kernel(input: Input): Promise<void> {
  const listing = input.field();
  const values = [input.field(), input.field()];
  let reads = 0;
  const device = {
    type: () => "Hyper-V",
    read: () => (reads++ === 0 ? listing : (values[reads % 2] as Buffer)),
    write: () => Buffer.alloc(0),
    close: () => undefined,
  };
  const nodes = { paths: () => ["/dev/pvbus0"], open: () => device };
  const pool = openbsdPools(nodeHost({ env: {} }).logger, nodes).pool(PARAMETERS);
  for (const [key, { value }] of await pool.snapshot("", new Call()))
    holds(!key.includes("\n") && isUtf8(value ?? Buffer.alloc(0)), "a pair that is no text");
  await pool.read(input.word16(), new Call());
}

/** What meets the files, messages and values of Hyper-V's pools. */
export const HYPERV: readonly Target[] = [
  { name: "hyperv-record", run: record, seeds: () => ["\x02keys\x01value"] },
  { name: "hyperv-index", run: index, seeds: () => ["\x01k\x01l\x00\x00\x00\x01\x00\x02\x00\x03\x00\x00"] },
  // encodeNote refuses what does not fit.
  {
    name: "hyperv-note",
    run: note,
    throws: [RangeError],
    seeds: () => [Buffer.concat([Buffer.from([0]), note1().subarray(1).subarray(0, 60)])],
  },
  {
    name: "hyperv-repair",
    run: repair,
    seeds: () => ["\x00\x01\x01\x02\x00\x02\x02\x00\x01\x00\x00\x00\x02\x01a\x01b"],
  },
  {
    name: "hyperv-keys",
    run: keys,
    seeds: () => ["\x00\x03abc\x01\x00name", "\x01\x00\x00\x01Guest/Parameters/x"],
  },
  {
    name: "hyperv-openbsd",
    run: kernel,
    isAsync: true,
    seeds: () => ["\x09OSName\na/b\x02v1\x02\xe9x\x07\0OSName"],
  },
  {
    name: "hyperv-registry",
    run: registry,
    isAsync: true,
    seeds: () => ["\x05\x00name\x01\x01t\x00e\x00", "\x03\x00ab\x04\x01\x01\x00\x00\x00"],
  },
];
