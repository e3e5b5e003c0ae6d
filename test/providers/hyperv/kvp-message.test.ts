import { expect } from "chai";
import fc from "fast-check";
import {
  decodeEnumerateReply,
  decodeIpInfo,
  decodeRegistrationReply,
  decodeRequest,
  encodeRegistration,
  encodeRequest,
  FREEBSD_KVP,
  type KvpRequest,
  LINUX_KVP,
  replyStatus,
  turnIntoEnumerateReply,
  turnIntoGetReply,
  turnIntoIpReply,
  turnIntoReply,
} from "../../../providers/hyperv/protocol/messages.js";
import { fixture } from "../../support/pools.js";

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));

/** Returns a copy of a request that has been made a reply. */
function replyTo(request: Buffer, turn: (message: Buffer) => void): Buffer {
  const reply = Buffer.from(request);
  turn(reply);
  return reply;
}

describe("KVP messages of the kernel's driver", () => {
  describe("genuine messages", () => {
    it("registration and the driver's answer", () => {
      expect(encodeRegistration(LINUX_KVP)).to.deep.equal(fixture("msg_register1_from_daemon.bin"));
      expect(decodeRegistrationReply(fixture("msg_register1_reply_to_daemon.bin"), LINUX_KVP)).to.equal(
        "3.1",
      );
      expect(decodeRegistrationReply(fixture("msg_set_request.bin"), LINUX_KVP)).to.equal(undefined);
    });

    const requests: readonly [string, KvpRequest][] = [
      ["set", { operation: "set", pool: 0, key: bytes("beta"), value: bytes("two") }],
      ["get", { operation: "get", pool: 0, key: bytes("alpha"), valueSize: 0 }],
      ["delete", { operation: "delete", pool: 0, key: bytes("beta") }],
      ["enumerate_pool0_index1", { operation: "enumerate", pool: 0, index: 1 }],
    ];
    for (const [name, request] of requests) {
      it(`request ${name}, both ways`, () => {
        const message = fixture(`msg_${name}_request.bin`);
        expect(decodeRequest(message, LINUX_KVP)).to.deep.equal(request);
        expect(encodeRequest(request as never, LINUX_KVP)).to.deep.equal(message);
      });
    }

    it("replies", () => {
      const set = fixture("msg_set_request.bin");
      expect(replyTo(set, (m) => turnIntoReply(m, 0))).to.deep.equal(fixture("msg_set_reply.bin"));
      const remove = fixture("msg_delete_request.bin");
      expect(replyTo(remove, (m) => turnIntoReply(m, 0))).to.deep.equal(fixture("msg_delete_reply.bin"));
      expect(replyTo(remove, (m) => turnIntoReply(m, 0x80070103))).to.deep.equal(
        fixture("msg_delete_missing_reply.bin"),
      );
      const get = fixture("msg_get_request.bin");
      expect(replyTo(get, (m) => turnIntoGetReply(m, bytes("one"), 0))).to.deep.equal(
        fixture("msg_get_reply.bin"),
      );
      const enumerate = fixture("msg_enumerate_pool0_index1_request.bin");
      const reply = fixture("msg_enumerate_pool0_index1_reply.bin");
      expect(replyTo(enumerate, (m) => turnIntoEnumerateReply(m, bytes("beta"), bytes("two")))).to.deep.equal(
        reply,
      );
      expect(decodeEnumerateReply(reply)).to.deep.equal({
        key: Buffer.from("beta"),
        value: Buffer.from("two"),
      });
    });

    it("the end of an enumeration", () => {
      const past = encodeRequest({ operation: "enumerate", pool: 0, index: 99 }, LINUX_KVP);
      const reply = fixture("msg_enumerate_pool0_index99_reply.bin");
      expect(replyTo(past, (m) => turnIntoReply(m, 0x80070103))).to.deep.equal(reply);
      expect(replyStatus(reply)).to.equal(0x80070103);
    });

    it("IP settings", () => {
      const request = fixture("msg_get_ip_info_request.bin");
      const reply = fixture("msg_get_ip_info_reply.bin");
      const decoded = decodeRequest(request, LINUX_KVP);
      expect(decoded).to.have.property("operation", "getIpInfo");
      const info = decodeIpInfo(reply);
      expect(info).to.deep.equal({
        adapterId: "02:00:00:00:00:10",
        addressFamily: 3,
        dhcpEnabled: 1,
        ipAddresses: "203.0.113.9;fe80::ff:fe00:10",
        subnets: "255.255.255.0;/64",
        gateways: "",
        dnsServers: "192.0.2.53;2001:db8::53;",
      });
      expect(replyTo(request, (m) => turnIntoIpReply(m, info))).to.deep.equal(reply);
    });
  });

  it("FreeBSD's messages are two bytes shorter and its registration is operation 4", () => {
    const registration = encodeRegistration(FREEBSD_KVP);
    expect(registration.length).to.equal(7430);
    expect([...new Set(registration.subarray(1))]).to.deep.equal([0]);
    expect(registration[0]).to.equal(4);
    const request: KvpRequest = { operation: "set", pool: 3, key: bytes("k"), value: bytes("v") };
    expect(decodeRequest(encodeRequest(request, FREEBSD_KVP), FREEBSD_KVP)).to.deep.equal(request);
  });

  it("a key is the text before its NUL, whatever its size says, as FreeBSD counts non-ASCII text short", () => {
    const message = encodeRequest({ operation: "delete", pool: 0, key: bytes("日本語") }, FREEBSD_KVP);
    message.writeUInt32LE(7, 4);
    expect(decodeRequest(message, FREEBSD_KVP)).to.deep.equal({
      operation: "delete",
      pool: 0,
      key: bytes("日本語"),
    });
  });

  describe("what no driver sends is malformed", () => {
    const set = { operation: "set", pool: 0, key: bytes("k"), value: bytes("v") } as const;
    const change = (edit: (message: Buffer) => void): KvpRequest => {
      const message = encodeRequest(set, LINUX_KVP);
      edit(message);
      return decodeRequest(message, LINUX_KVP);
    };
    for (const [what, edit] of [
      ["key_size 0", (m: Buffer) => m.writeUInt32LE(0, 8)],
      ["key_size 513", (m: Buffer) => m.writeUInt32LE(513, 8)],
      ["key_size 4294967295", (m: Buffer) => m.writeUInt32LE(0xffffffff, 8)],
      ["value_size 2049", (m: Buffer) => m.writeUInt32LE(2049, 12)],
      ["key without an end", (m: Buffer) => m.fill(0x61, 16, 528)],
      ["value without an end", (m: Buffer) => m.fill(0x61, 528, 2576)],
    ] as const) {
      it(what, () => {
        expect(change(edit)).to.deep.equal({ operation: "malformed", reason: what });
      });
    }

    it("a message cut short", () => {
      expect(decodeRequest(Buffer.alloc(7431), LINUX_KVP)).to.deep.equal({
        operation: "malformed",
        reason: "7431 of 7432 bytes",
      });
      expect(decodeRequest(Buffer.alloc(0), LINUX_KVP)).to.have.property("operation", "malformed");
    });

    it("a value size of 0 is no value: the driver knows no such type", () => {
      expect(change((m) => m.writeUInt32LE(0, 12))).to.deep.equal({ ...set, value: undefined });
    });

    it("operations beyond SET_IP_INFO are unknown, the registration's too", () => {
      for (const number of [6, 7, 100, 255]) {
        expect(change((m) => m.writeUInt8(number, 0))).to.deep.equal({ operation: "unknown", number });
      }
    });
  });

  it("any bytes decode, and any decoded request encodes to one that decodes to the same", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 7432, maxLength: 7432 }),
        fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 100),
        fc.boolean(),
        (message, operation, tame) => {
          message[0] = operation;
          if (tame) {
            for (const at of [4, 8, 12]) message.set([at, 0, 0, 0], at);
            for (const at of [24, 540, 2303, 300, 2400, 4400, 5400]) message[at] = 0;
          }
          const request = decodeRequest(Buffer.from(message), LINUX_KVP);
          if (request.operation === "malformed" || request.operation.endsWith("IpInfo")) return;
          const again = decodeRequest(encodeRequest(request as never, LINUX_KVP), LINUX_KVP);
          expect(again).to.deep.equal(request);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("strings too long for their fields are refused, never cut", () => {
    const request = fixture("msg_get_ip_info_request.bin");
    const info = { ...decodeIpInfo(request), gateways: "x".repeat(1024) };
    expect(() => replyTo(request, (m) => turnIntoIpReply(m, info))).to.throw(RangeError);
    expect(
      replyTo(request, (m) => turnIntoIpReply(m, { ...info, gateways: "x".repeat(1023) })),
    ).to.have.length(7432);
    expect(() => turnIntoEnumerateReply(request, bytes("k".repeat(512)), bytes(""))).to.throw(RangeError);
    expect(() =>
      encodeRequest({ operation: "delete", pool: 0, key: bytes("k".repeat(512)) }, LINUX_KVP),
    ).to.throw(RangeError);
  });
});
