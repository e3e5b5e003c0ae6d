import { expect } from "chai";
import fc from "fast-check";
import {
  decodeDirectoryPart,
  decodeStrings,
  encodeMessage,
  encodeStrings,
  MessageDecoder,
  OversizedMessage,
  XENSTORE_PAYLOAD_MAX,
  XS,
  type XsMessage,
} from "../../../providers/xen/protocol/wire.js";

/** Messages captured from Xen's C daemon: what it is, header and payload, the bytes. */
const CAPTURED: readonly (readonly [string, Omit<XsMessage, "payload">, string | Buffer, string])[] = [
  [
    "WRITE",
    { type: XS.WRITE, requestId: 1, transactionId: 0 },
    "/data/k\0v1",
    "0b00000001000000000000000a0000002f646174612f6b007631",
  ],
  [
    "its answer",
    { type: XS.WRITE, requestId: 1, transactionId: 0 },
    "OK\0",
    "0b0000000100000000000000030000004f4b00",
  ],
  [
    "READ",
    { type: XS.READ, requestId: 2, transactionId: 0 },
    "/data/k\0",
    "020000000200000000000000080000002f646174612f6b00",
  ],
  [
    "an error",
    { type: XS.ERROR, requestId: 4, transactionId: 0 },
    "ENOENT\0",
    "10000000040000000000000007000000454e4f454e5400",
  ],
  [
    "WRITE of bytes",
    { type: XS.WRITE, requestId: 5, transactionId: 0 },
    Buffer.from("/data/bin\0\0\xff\n", "latin1"),
    "0b00000005000000000000000d0000002f646174612f62696e0000ff0a",
  ],
  [
    "WRITE in a transaction",
    { type: XS.WRITE, requestId: 8, transactionId: 1 },
    "/data/k\0v2",
    "0b00000008000000010000000a0000002f646174612f6b007632",
  ],
  [
    "an event",
    { type: XS.WATCH_EVENT, requestId: 0, transactionId: 0 },
    "/data/m\0w1\0",
    "0f00000000000000000000000b0000002f646174612f6d00773100",
  ],
  [
    "SET_PERMS",
    { type: XS.SET_PERMS, requestId: 15, transactionId: 0 },
    "/data\0n0\0r7\0",
    "0e0000000f000000000000000c0000002f64617461006e3000723700",
  ],
];

interface Received extends XsMessage {
  readonly payload: Buffer;
}

function decoderOf(received: Received[]): MessageDecoder {
  return new MessageDecoder(XENSTORE_PAYLOAD_MAX, (type, requestId, transactionId, bytes, start, end) => {
    received.push({ type, requestId, transactionId, payload: Buffer.from(bytes.subarray(start, end)) });
  });
}

const word = fc.integer({ min: 0, max: 0xffff_ffff });
const message: fc.Arbitrary<Received> = fc.record({
  type: word,
  requestId: word,
  transactionId: word,
  payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
});

describe("XenStore messages", () => {
  for (const [what, head, payload, hex] of CAPTURED) {
    it(`are as captured: ${what}`, () => {
      const bytes = Buffer.from(payload as string);
      expect(encodeMessage({ ...head, payload: bytes }).toString("hex")).to.equal(hex);
      const received: Received[] = [];
      decoderOf(received).push(Buffer.from(hex, "hex"));
      expect(received).to.deep.equal([{ ...head, payload: bytes }]);
    });
  }

  it("survive any cutting of the stream", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(400)), (messages, cuts) => {
        const stream = Buffer.concat(messages.map(encodeMessage));
        const received: Received[] = [];
        const decoder = decoderOf(received);
        let at = 0;
        for (const cut of [...cuts, stream.length]) {
          // The reader's buffer is used again for the next piece.
          const piece = Buffer.from(stream.subarray(at, at + cut));
          decoder.push(piece);
          piece.fill(0xee);
          at += cut;
        }
        expect(received).to.deep.equal(messages);
        expect(decoder.pending).to.equal(0);
      }),
    );
  });

  it("survive one byte at a time", () => {
    const messages = CAPTURED.map(([, head, payload]) => ({
      ...head,
      payload: Buffer.from(payload as string),
    }));
    const received: Received[] = [];
    const decoder = decoderOf(received);
    for (const byte of Buffer.concat(messages.map(encodeMessage))) decoder.push(Buffer.of(byte));
    expect(received).to.deep.equal(messages);
  });

  it("may have no payload and the largest one", () => {
    const messages = [0, XENSTORE_PAYLOAD_MAX].map((length) => ({
      type: XS.READ,
      requestId: 1,
      transactionId: 0,
      payload: Buffer.alloc(length, 7),
    }));
    const received: Received[] = [];
    decoderOf(received).push(Buffer.concat(messages.map(encodeMessage)));
    expect(received).to.deep.equal(messages);
  });

  it("are refused when they announce too much, whole or in pieces", () => {
    const header = encodeMessage({ type: 2, requestId: 1, transactionId: 0, payload: Buffer.alloc(0) });
    header.writeUInt32LE(XENSTORE_PAYLOAD_MAX + 1, 12);
    expect(() => decoderOf([]).push(header)).to.throw(OversizedMessage, "4097 bytes");
    const decoder = decoderOf([]);
    decoder.push(header.subarray(0, 13));
    expect(() => decoder.push(header.subarray(13))).to.throw(OversizedMessage);
  });
});

describe("XenStore payloads", () => {
  it("hold strings with a NUL each", () => {
    expect(decodeStrings(encodeStrings("a", "", "b"))).to.deep.equal(["a", "", "b"]);
    expect(decodeStrings(Buffer.alloc(0))).to.deep.equal([]);
    expect(decodeStrings(Buffer.from("a\0b"))).to.deep.equal(["a", "b"]);
    expect(decodeStrings(Buffer.from("path\0to\0ken\0"), 2)).to.deep.equal(["path", "to\0ken"]);
  });

  it("give a listing in parts, as captured", () => {
    const captured = Buffer.from("323431350 06b00 62696e00 6d00 00".replaceAll(" ", ""), "hex");
    expect(decodeDirectoryPart(captured, 0)).to.deep.equal({
      generation: "2415",
      names: ["k", "bin", "m"],
      next: undefined,
    });
    const behind = Buffer.from("323431350000", "hex");
    expect(decodeDirectoryPart(behind, 99)).to.deep.equal({ generation: "2415", names: [], next: undefined });
    expect(decodeDirectoryPart(Buffer.from("7\0ab\0c\0"), 100)).to.deep.equal({
      generation: "7",
      names: ["ab", "c"],
      next: 105,
    });
  });

  it("are no listing in parts whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(), (bytes, offset) => {
        const part = decodeDirectoryPart(bytes, offset);
        if (part === undefined) return;
        expect(part.generation).to.match(/^\d+$/);
        expect(part.names).to.not.include("");
        if (part.next !== undefined) expect(part.next).to.be.greaterThan(offset);
      }),
    );
  });
});
