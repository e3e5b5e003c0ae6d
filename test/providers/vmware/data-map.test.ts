import { expect } from "chai";
import fc from "fast-check";
import {
  decodeFrame,
  encodeFrame,
  FrameReader,
  MAX_FRAME_BYTES,
} from "../../../providers/vmware/protocol/data-map.js";
import { infoSet } from "../../../providers/vmware/protocol/rpci.js";
import { PvbusError } from "../../../src/index.js";

const bytes = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ""), "hex");
const words = (...numbers: readonly number[]): Buffer => {
  const all = Buffer.alloc(numbers.length * 4);
  for (const [at, number] of numbers.entries()) all.writeUInt32BE(number, at * 4);
  return all;
};
const DATA = words(1, 1, 1, 0);
const payload = (text: string): Buffer => Buffer.concat([words(2, 2, text.length), Buffer.from(text)]);

function decode(...parts: readonly Uint8Array[]): string | undefined {
  try {
    return decodeFrame(Buffer.concat(parts)).toString("latin1");
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    expect(error.code).to.equal("ERR_PROTOCOL");
    return undefined;
  }
}

describe("VMware DataMap frames", () => {
  it("encodes commands as vmtoolsd does", () => {
    const get = Buffer.from("info-get guestinfo.foo");
    expect(encodeFrame(get, true).toString("hex")).to.equal(
      bytes(`00000042 00000001 00000001 00000001 00000000
        00000002 00000002 00000016 696e666f2d676574206775657374696e666f2e666f6f
        00000001 00000003 00000001 00000000`).toString("hex"),
    );
    const kept = encodeFrame(get);
    expect([kept.readUInt32BE(), kept.length]).to.deep.equal([0x32, 54]);
    expect(encodeFrame(infoSet("guestinfo.a", Buffer.from("b c")).bytes).readUInt32BE()).to.equal(0x34);
  });

  it("decodes replies of a host", () => {
    const frames = {
      "1 bar": "00000021 00000001 00000001 00000001 00000000 00000002 00000002 00000005 3120626172",
      "0 No value found":
        "0000002c 00000001 00000001 00000001 00000000 00000002 00000002 00000010 30204e6f2076616c756520666f756e64",
      "0 Permission denied":
        "0000002f 00000001 00000001 00000001 00000000 00000002 00000002 00000013 30205065726d697373696f6e2064656e696564",
      "1 ": "0000001e 00000001 00000001 00000001 00000000 00000002 00000002 00000002 3120",
    };
    for (const [reply, frame] of Object.entries(frames)) {
      const body = new FrameReader().push(bytes(frame));
      expect(decode(body ?? Buffer.alloc(0))).to.equal(reply);
    }
  });

  it("takes fields in any order, skips unknown ones of every type", () => {
    const unknown = [
      words(1, 77, 1, 2),
      Buffer.concat([words(2, 78, 3), Buffer.from("abc")]),
      words(3, 79, 2, 1, 0, 2, 0),
      Buffer.concat([words(4, 80, 2, 1), Buffer.from("a"), words(2), Buffer.from("bc")]),
      words(3, 81, 0),
    ];
    expect(decode(payload("1 x"), ...unknown, DATA)).to.equal("1 x");
  });

  it("refuses what is malformed", () => {
    expect(decode()).to.equal(undefined);
    expect(decode(DATA)).to.equal(undefined);
    expect(decode(payload("1 x"))).to.equal(undefined);
    expect(decode(DATA, words(2, 2, 0))).to.equal(undefined);
    expect(decode(DATA, payload("1 a"), payload("1 b"))).to.equal(undefined);
    expect(decode(DATA, DATA, payload("1 a"))).to.equal(undefined);
    for (const type of [0, 5, 0xffff_ffff])
      expect(decode(DATA, payload("1 a"), words(type, 9, 1))).to.equal(undefined);
    expect(decode(DATA, words(2, 2, 0x7fff_ffff))).to.equal(undefined);
    expect(decode(DATA, words(2, 2, 4), Buffer.from("1 x"))).to.equal(undefined);
    expect(decode(DATA, payload("1 x"), words(3, 9, 0xffff_ffff, 1))).to.equal(undefined);
    expect(decode(DATA, payload("1 x"), Buffer.from([0, 0, 0]))).to.equal(undefined);
    expect(decode(words(1, 1, 2, 0), payload("1 x")), "a ping").to.equal(undefined);
    expect(decode(words(1, 1, 1, 1), payload("1 x")), "a type beyond 32 bits").to.equal(undefined);
    expect(decode(words(2, 1, 1), Buffer.from("x"), payload("1 x")), "a type of text").to.equal(undefined);
    expect(decode(DATA, words(1, 2, 1, 0)), "a payload of integers").to.equal(undefined);
  });

  it("refuses to encode what no frame can hold", () => {
    expect(() => encodeFrame(Buffer.alloc(0))).to.throw(RangeError);
  });

  describe("reader", () => {
    it("gives the same frame however the bytes come", () => {
      const frame = Buffer.concat([words(16 + 12 + 300), DATA, payload("1 ".padEnd(300, "x"))]);
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 40 }), (sizes) => {
          const reader = new FrameReader();
          let at = 0;
          let body: Buffer | undefined;
          for (const size of [...sizes, frame.length]) {
            if (at >= frame.length) break;
            expect(body).to.equal(undefined);
            body = reader.push(frame.subarray(at, at + size));
            at += size;
          }
          expect(body?.equals(frame.subarray(4))).to.equal(true);
          expect(reader.pending).to.equal(0);
        }),
      );
    });

    it("refuses lengths beyond its limit as soon as it sees them, and bytes behind a frame", () => {
      for (const length of [MAX_FRAME_BYTES + 1, 0x7fff_ffff, 0xffff_ffff])
        expect(() => new FrameReader().push(words(length))).to.throw(/announces/);
      expect(() => new FrameReader().push(Buffer.concat([words(16), DATA, words(0)]))).to.throw(/more bytes/);
    });
  });

  it("either decodes or refuses any bytes", () => {
    const soup = fc.array(
      fc.oneof(
        fc.integer({ min: 0, max: 5 }).map((number) => words(number)),
        fc.uint8Array({ maxLength: 9 }).map((some) => Buffer.from(some)),
        fc.constant(DATA),
        fc.string({ minLength: 1, maxLength: 5, unit: "grapheme-ascii" }).map(payload),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(soup, (parts) => void decode(...parts)),
      { numRuns: 3000 },
    );
  });

  it("holds a frame that comes byte by byte in a few times its size, and time in proportion", () => {
    const body = Buffer.alloc(1 << 20, "x");
    body.write("1 ");
    const frame = encodeFrame(body);
    const reader = new FrameReader();
    const byte = Buffer.alloc(1);
    const held = (): number => {
      const { heapUsed, external } = process.memoryUsage();
      return heapUsed + external;
    };
    const before = held();
    const start = performance.now();
    let whole: Buffer | undefined;
    for (const value of frame.subarray(0, -1)) {
      byte[0] = value;
      whole ??= reader.push(byte);
    }
    expect(whole).to.equal(undefined);
    expect(reader.pending).to.equal(frame.length - 1);
    expect(held() - before).to.be.lessThan(32 * 1024 * 1024);
    expect(performance.now() - start).to.be.lessThan(5_000);
    byte[0] = frame.at(-1) as number;
    expect(decodeFrame(reader.push(byte) ?? Buffer.alloc(0)).equals(body)).to.equal(true);
    expect(reader.pending).to.equal(0);
  });

  it("takes no memory for a length that was only announced", () => {
    const before = process.memoryUsage().external;
    const readers = Array.from({ length: 64 }, () => {
      const reader = new FrameReader();
      reader.push(words(MAX_FRAME_BYTES));
      return reader;
    });
    expect(process.memoryUsage().external - before).to.be.lessThan(16 * 1024 * 1024);
    expect(readers.every(({ pending }) => pending === 4)).to.equal(true);
  });
});
