import { expect } from "chai";
import {
  type CallParameter,
  decodeClient,
  decodeNumber,
  decodeRequest,
  decodeStatus,
  encodeCall,
  encodeConnect,
  encodeDisconnect,
  encodeVersion,
  FOREVER_MS,
  requestNumber,
  writeVersion,
} from "../../../providers/virtualbox/protocol/ioctl.js";
import { PvbusError } from "../../../src/index.js";

/* Golden bytes: client 7, buffers at 0x1000, 0x2000 and 0x3000, as the reference has them. */

const hex = (text: string): string => text.replaceAll(" ", "");
const address = { A: 0x1000n, B: 0x2000n, C: 0x3000n };
const name = (size: number): CallParameter => ({ kind: "in", size, address: address.A });
const U32: CallParameter = { kind: "u32", value: 0n };
const U64: CallParameter = { kind: "u64", value: 0n };
const GET = [name(3), { kind: "out", size: 1024, address: address.B }, U64, U32] as const;
const common = { client: 7, timeoutMs: 5000 };

const MESSAGES: readonly (readonly [string, Buffer, string])[] = [
  [
    "VERSION_INFO",
    encodeVersion(),
    "28000000 01000100 00000000 00000000 2c000000 00000000 00000100 00000100 00000000 00000000 00000000",
  ],
  [
    "CONNECT",
    encodeConnect(),
    `9c000000 01000100 00000000 00000000 1c000000 00000000 02000000 56426f78 47756573 7450726f 70537663${"00".repeat(112)}`,
  ],
  ["DISCONNECT", encodeDisconnect(7), "1c000000 01000100 00000000 00000000 18000000 00000000 07000000"],
  [
    "GET",
    encodeCall({ ...common, function: 1, parameters: GET }),
    `68000000 01000100 00000000 00000000 68000000 00000000 07000000 01000000 88130000 00000400
     05000000 03000000 00100000 00000000 06000000 00040000 00200000 00000000
     02000000 00000000 00000000 00000000 01000000 00000000 00000000 00000000`.replaceAll("\n", ""),
  ],
  [
    "SET",
    encodeCall({
      ...common,
      function: 2,
      parameters: [
        name(3),
        { kind: "in", size: 3, address: address.B },
        { kind: "in", size: 10, address: address.C },
      ],
    }),
    `58000000 01000100 00000000 00000000 58000000 00000000 07000000 02000000 88130000 00000300
     05000000 03000000 00100000 00000000 05000000 03000000 00200000 00000000 05000000 0a000000 00300000 00000000`,
  ],
  [
    "SET_VALUE",
    encodeCall({
      ...common,
      function: 3,
      parameters: [name(3), { kind: "in", size: 3, address: address.B }],
    }),
    `48000000 01000100 00000000 00000000 48000000 00000000 07000000 03000000 88130000 00000200
     05000000 03000000 00100000 00000000 05000000 03000000 00200000 00000000`,
  ],
  [
    "DEL",
    encodeCall({ ...common, function: 4, parameters: [name(3)] }),
    `38000000 01000100 00000000 00000000 38000000 00000000 07000000 04000000 88130000 00000100
     05000000 03000000 00100000 00000000`,
  ],
  [
    "ENUM",
    encodeCall({
      ...common,
      function: 5,
      parameters: [name(5), { kind: "out", size: 16384, address: address.B }, U32],
    }),
    `58000000 01000100 00000000 00000000 58000000 00000000 07000000 05000000 88130000 00000300
     05000000 05000000 00100000 00000000 06000000 00400000 00200000 00000000 01000000 00000000 00000000 00000000`,
  ],
  [
    "WAIT",
    encodeCall({
      client: 7,
      timeoutMs: 1000,
      function: 6,
      parameters: [
        name(5),
        { kind: "u64", value: 1795770116803506000n },
        { kind: "out", size: 2048, address: address.B },
        U32,
      ],
    }),
    `68000000 01000100 00000000 00000000 68000000 00000000 07000000 06000000 e8030000 00000400
     05000000 05000000 00100000 00000000 02000000 50af5526 68dbeb18 00000000
     06000000 00080000 00200000 00000000 01000000 00000000 00000000 00000000`,
  ],
  [
    "GET of a 32-bit process",
    encodeCall({ ...common, function: 1, parameters: GET }, 32),
    `58000000 01000100 00000000 00000000 58000000 00000000 07000000 01000000 88130000 00000400
     05000000 03000000 00100000 06000000 00040000 00200000 02000000 00000000 00000000 01000000 00000000 00000000`,
  ],
];

describe("requests of VirtualBox's driver", () => {
  for (const [what, bytes, expected] of MESSAGES)
    it(`${what} has the bytes of the recording`, () => {
      expect(bytes.toString("hex")).to.equal(hex(expected).replaceAll("\n", ""));
    });

  it("are read back as they were written", () => {
    expect(decodeRequest(0xc02c5600, encodeVersion())).to.deep.equal({ request: "version", wanted: 0x10000 });
    expect(decodeRequest(0xc09c5604, encodeConnect("x"))).to.deep.equal({
      request: "connect",
      location: 2,
      service: "x",
    });
    expect(decodeRequest(0xc01c5605, encodeDisconnect(9))).to.deep.equal({
      request: "disconnect",
      client: 9,
    });
    for (const bits of [64, 32] as const) {
      const call = { ...common, function: 1, parameters: GET };
      const bytes = encodeCall(call, bits);
      expect(decodeRequest(requestNumber("call", bytes.length, bits), bytes)).to.deep.equal({
        request: "call",
        bits,
        ...call,
      });
    }
  });

  it("have the numbers of each system", () => {
    expect(requestNumber("version", 44)).to.equal(0xc02c5600);
    expect(requestNumber("connect", 156)).to.equal(0xc09c5604);
    expect(requestNumber("disconnect", 28)).to.equal(0xc01c5605);
    expect([1, 2, 3, 4].map((n) => requestNumber("call", 40 + 16 * n))).to.deep.equal([
      0xc0385607, 0xc0485607, 0xc0585607, 0xc0685607,
    ]);
    expect([1, 2, 3, 4].map((n) => requestNumber("call", 40 + 12 * n, 32))).to.deep.equal([
      0xc0345606, 0xc0405606, 0xc04c5606, 0xc0585606,
    ]);
    const windows = (request: "version" | "connect" | "disconnect" | "call", bits: 32 | 64 = 64) =>
      requestNumber(request, 104, bits, "windows");
    expect(windows("version")).to.equal(0x22a000);
    expect(windows("connect")).to.equal(0x22a010);
    expect(windows("disconnect")).to.equal(0x22a014);
    expect(windows("call")).to.equal(0x22a01c);
    expect(windows("call", 32)).to.equal(0x22a018);
  });

  it("are refused by the driver's errors", () => {
    const call = encodeCall({ ...common, function: 1, parameters: GET });
    const broken = (at: number, value: number, bytes: Buffer = call): Buffer => {
      const copy = Buffer.from(bytes);
      copy.writeUInt32LE(value, at);
      return copy;
    };
    const number = 0xc0685607;
    expect(decodeRequest(number, call.subarray(0, 20)), "no header").to.equal("EINVAL");
    expect(decodeRequest(number, broken(4, 0x10000)), "version").to.equal("EINVAL");
    expect(decodeRequest(number, broken(8, 1)), "type").to.equal("EINVAL");
    expect(decodeRequest(number, broken(0, 23)), "size").to.equal("EINVAL");
    expect(decodeRequest(number, broken(0, 105)), "size beyond the memory").to.equal("EINVAL");
    expect(decodeRequest(0xc0585607, call), "size in the number").to.equal("EINVAL");
    expect(decodeRequest(0x5607, call), "no size in the number").to.be.an("object");
    expect(decodeRequest(number, broken(36, 0x50000)), "more parameters than there are").to.equal("EINVAL");
    expect(decodeRequest(number, broken(36, 0x210000)), "33 parameters").to.equal("E2BIG");
    expect(decodeRequest(number, broken(40, 3)), "a type that there is not").to.equal("EINVAL");
    expect(decodeRequest(0xc0185699, encodeDisconnect(1)), "an unknown number").to.equal("EINVAL");
    expect(decodeRequest(0x5699, encodeDisconnect(1)), "an unknown number").to.equal("ENOTTY");
    const many = Array.from({ length: 33 }, () => U32);
    expect(() => encodeCall({ ...common, function: 1, parameters: many })).to.throw(RangeError);
  });

  it("have answers that are read within their bytes", () => {
    const answer = hex("9c000000 01000100 00000000 00000000 1c000000 00000000 07000000");
    expect(decodeClient(Buffer.from(answer, "hex"))).to.equal(7);
    expect(decodeStatus(Buffer.from(answer, "hex"))).to.equal(0);
    const refuses = (read: () => unknown): void => {
      expect(read).to.throw(PvbusError).with.property("code", "ERR_PROTOCOL");
    };
    refuses(() => decodeClient(Buffer.from(answer.replace(/07000000$/, "00000000"), "hex")));
    refuses(() => decodeClient(Buffer.from(answer, "hex").subarray(0, 27)));
    refuses(() => decodeStatus(Buffer.alloc(23)));
    const call = encodeCall({ ...common, function: 1, parameters: GET, timeoutMs: FOREVER_MS });
    expect(decodeNumber(call, 3)).to.equal(0n);
    refuses(() => decodeNumber(call, 4));
    refuses(() => decodeNumber(call, 0));
    const version = encodeVersion();
    writeVersion(version, 0x20000);
    expect([decodeStatus(version), version.readUInt32LE(24)]).to.deep.equal([-11, 0xffffffff]);
  });
});
