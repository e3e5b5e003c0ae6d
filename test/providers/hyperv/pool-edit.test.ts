import { expect } from "chai";
import fc from "fast-check";
import { decodeRecord, encodeRecord, RECORD_SIZE } from "../../../providers/hyperv/codec.js";
import {
  appendRecord,
  type PoolBytes,
  removeRecords,
  scrubTails,
  updateRecord,
  wholeRecords,
} from "../../../providers/hyperv/pool-edit.js";

const PAGE = 4096;

type Step = { readonly offset: number; readonly bytes: Buffer } | { readonly truncate: number };

/** A pool in memory that records every step, so that a kill can be replayed at any of them. */
class RecordingPool implements PoolBytes {
  image: Buffer<ArrayBufferLike>;
  readonly steps: Step[] = [];

  constructor(image: Buffer) {
    this.image = Buffer.from(image);
  }

  get size(): number {
    return this.image.length;
  }

  read(into: Buffer, offset: number): void {
    if (this.image.copy(into, 0, offset) < into.length) throw new Error("read beyond the end");
  }

  write(bytes: Uint8Array, offset: number): void {
    this.steps.push({ offset, bytes: Buffer.from(bytes) });
    this.image = applied(this.image, offset, bytes);
  }

  truncate(size: number): void {
    this.steps.push({ truncate: size });
    this.image = this.image.subarray(0, size);
  }
}

function applied(image: Uint8Array, offset: number, bytes: Uint8Array): Buffer {
  const result = Buffer.alloc(Math.max(image.length, offset + bytes.length));
  result.set(image);
  result.set(bytes, offset);
  return result;
}

/** Every state that a kill can leave: after each step, and inside a write at each page border that it crosses. */
function* killedStates(before: Buffer, steps: readonly Step[]): Generator<Buffer> {
  let image: Buffer = Buffer.from(before);
  yield image;
  for (const step of steps) {
    if ("truncate" in step) image = Buffer.from(image.subarray(0, step.truncate));
    else {
      const firstBorder = (Math.floor(step.offset / PAGE) + 1) * PAGE;
      for (let border = firstBorder; border < step.offset + step.bytes.length; border += PAGE) {
        yield applied(image, step.offset, step.bytes.subarray(0, border - step.offset));
      }
      image = applied(image, step.offset, step.bytes);
    }
    yield image;
  }
}

/** What a reader makes of an image: the last record of each key, unused slots and torn tails left out. */
function meaning(image: Buffer): Map<string, string> {
  const pairs = new Map<string, string>();
  for (let at = 0; at + RECORD_SIZE <= image.length; at += RECORD_SIZE) {
    const { key, value } = decodeRecord(image, at);
    if (key.length > 0) pairs.set(Buffer.from(key).toString("latin1"), Buffer.from(value).toString("latin1"));
  }
  return pairs;
}

function offsetsOf(image: Buffer, key: string): number[] {
  const offsets: number[] = [];
  for (let at = 0; at + RECORD_SIZE <= image.length; at += RECORD_SIZE) {
    if (Buffer.from(decodeRecord(image, at).key).toString("latin1") === key) offsets.push(at);
  }
  return offsets;
}

/** Writes as the pool does. */
function write(pool: RecordingPool, key: string, value: string): void {
  const offsets = offsetsOf(pool.image, key);
  const last = offsets.pop();
  if (last === undefined) appendRecord(pool, Buffer.from(key), Buffer.from(value));
  else {
    updateRecord(pool, last, Buffer.from(key), Buffer.from(value));
    if (offsets.length > 0) for (const _ of removeRecords(pool, offsets));
  }
}

function remove(pool: RecordingPool, key: string): void {
  const offsets = offsetsOf(pool.image, key);
  if (offsets.length > 0) for (const _ of removeRecords(pool, offsets));
}

const keys = fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l");
const values = fc.oneof(
  fc.string({ maxLength: 20, unit: "grapheme-ascii" }),
  fc.tuple(fc.constantFrom("x", "y", "z"), fc.integer({ min: 0, max: 2047 })).map(([c, n]) => c.repeat(n)),
);
/** A record as any writer may have left it: garbage behind the NULs. */
const record = fc
  .tuple(keys, values, fc.uint8Array({ minLength: 64, maxLength: 64 }))
  .map(([key, value, tail]) => {
    const bytes = encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });
    bytes.set(tail.subarray(0, 32), 2);
    bytes.set(
      tail.subarray(32, 64).subarray(0, Math.max(0, 2560 - (512 + value.length + 1))),
      512 + value.length + 1,
    );
    return bytes;
  });
const pool = fc
  .tuple(fc.array(record, { maxLength: 20 }), fc.uint8Array({ maxLength: 700 }))
  .map(([records, torn]) => Buffer.concat([...records, torn]));
const operation = fc.oneof(
  fc.record({ kind: fc.constant("write" as const), key: keys, value: values }),
  fc.record({ kind: fc.constant("remove" as const), key: keys }),
  fc.record({ kind: fc.constant("scrub" as const) }),
);

describe("Hyper-V pool edits", () => {
  it("leave the old or the new state at every instant of a kill, and no other key touched", () => {
    fc.assert(
      fc.property(pool, operation, (image, op) => {
        const before = meaning(image);
        const edited = new RecordingPool(image);
        if (op.kind === "write") write(edited, op.key, op.value);
        else if (op.kind === "remove") remove(edited, op.key);
        else for (const _ of scrubTails(edited));
        const after = meaning(edited.image);
        const expected = new Map(before);
        if (op.kind === "write") expected.set(op.key, op.value);
        if (op.kind === "remove") expected.delete(op.key);
        expect(after).to.deep.equal(expected);
        for (const state of killedStates(image, edited.steps)) {
          const seen = meaning(state);
          for (const [key, value] of before) {
            if (op.kind !== "scrub" && key === op.key) continue;
            expect(seen.get(key), `key ${key}`).to.equal(value);
          }
          if (op.kind !== "scrub")
            expect(seen.get(op.key)).to.be.oneOf([before.get(op.key), expected.get(op.key)]);
          expect([...seen.keys()].every((key) => before.has(key) || expected.has(key))).to.equal(true);
        }
      }),
      { numRuns: 600 },
    );
  });

  it("keep keys unique and the file whole after any operation on a pool without duplicates", () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const edited = new RecordingPool(Buffer.alloc(0));
        const model = new Map<string, string>();
        for (const op of operations) {
          if (op.kind === "write") {
            write(edited, op.key, op.value);
            model.set(op.key, op.value);
          } else if (op.kind === "remove") {
            remove(edited, op.key);
            model.delete(op.key);
          }
        }
        expect(edited.size).to.equal(model.size * RECORD_SIZE);
        expect([...meaning(edited.image)]).to.deep.equal([...model]);
      }),
    );
  });

  it("write a record at each of the eight page positions without ever tearing its value", () => {
    for (let slot = 0; slot < 8; slot++) {
      for (const [old, next] of [
        ["o".repeat(2047), "n".repeat(2047)],
        ["o".repeat(2047), "n"],
        ["o", "n".repeat(2047)],
        ["o", "n"],
      ] as const) {
        const image = Buffer.concat(
          Array.from({ length: 8 }, (_, i) =>
            encodeRecord({ key: Buffer.from(`k${i}`), value: Buffer.from(i === slot ? old : "other") }),
          ),
        );
        const edited = new RecordingPool(image);
        updateRecord(edited, slot * RECORD_SIZE, Buffer.from(`k${slot}`), Buffer.from(next));
        for (const state of killedStates(image, edited.steps)) {
          expect(meaning(state).get(`k${slot}`)).to.be.oneOf([old, next]);
          expect(meaning(state).size).to.equal(8);
        }
        expect(edited.size).to.equal(image.length);
      }
    }
  });

  it("zero-fill the record that is written and scrub those that are moved", () => {
    const dirty = (key: string): Buffer => {
      const bytes = encodeRecord({ key: Buffer.from(key), value: Buffer.from("v") });
      bytes.fill(0xee, 100, 500);
      bytes.fill(0xee, 600);
      return bytes;
    };
    const edited = new RecordingPool(Buffer.concat([dirty("a"), dirty("b"), dirty("c")]));
    remove(edited, "a");
    write(edited, "b", "w");
    const clean = (key: string, value: string): Buffer =>
      encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });
    expect(edited.image.equals(Buffer.concat([clean("b", "w"), clean("c", "v")]))).to.equal(true);
  });

  it("give the file back as it was when the disk is full", () => {
    const image = encodeRecord({ key: Buffer.from("a"), value: Buffer.from("1") });
    for (const failingWrite of [1, 2]) {
      const full = new RecordingPool(image);
      let writes = 0;
      const write = full.write.bind(full);
      full.write = (bytes, offset) => {
        if (++writes === failingWrite) {
          write(bytes.subarray(0, 100), offset);
          throw Object.assign(new Error("ENOSPC"), { code: "ENOSPC", syscall: "write" });
        }
        write(bytes, offset);
      };
      expect(() => appendRecord(full, Buffer.from("b"), Buffer.from("2"))).to.throw("ENOSPC");
      expect(full.image.equals(image)).to.equal(true);
    }
  });

  it("cut a torn tail before they append", () => {
    const edited = new RecordingPool(
      Buffer.concat([
        encodeRecord({ key: Buffer.from("a"), value: Buffer.from("1") }),
        Buffer.alloc(700, 0x54),
      ]),
    );
    write(edited, "n", "n");
    expect(edited.size).to.equal(2 * RECORD_SIZE);
    expect(edited.image.includes(0x54)).to.equal(false);
    expect(wholeRecords(3260)).to.equal(2560);
  });
});
