import { expect } from "chai";
import fc from "fast-check";
import { checkKey, MAX_REQUEST_BYTES, MAX_VALUE_BYTES } from "../../../providers/vmware/protocol/keys.js";
import { command, decodeReply, infoGet, infoSet, refusal } from "../../../providers/vmware/protocol/rpci.js";
import { PvbusError, type PvbusErrorCode } from "../../../src/index.js";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

function codeOf(action: () => unknown): PvbusErrorCode | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return error.code;
  }
}

describe("VMware RPCI", () => {
  it("words its commands as VMware's tools do", () => {
    expect(text(infoGet("guestinfo.foo").bytes)).to.equal("info-get guestinfo.foo");
    expect(infoGet("guestinfo.nope").bytes).to.have.length(0x17);
    const set = infoSet("guestinfo.a", Buffer.from("b c"));
    expect(text(set.bytes)).to.equal("info-set guestinfo.a b c");
    expect(set.bytes).to.have.length(24);
    expect(text(command("datasets-list").bytes)).to.equal("datasets-list ");
  });

  it("keeps a value's bytes as they are, spaces and line ends at both ends included", () => {
    for (const value of ["", " ", "  a  ", "\n", "a\r\nb", "grüß€", "1 x"]) {
      const { bytes } = infoSet("guestinfo.a", Buffer.from(value));
      expect(Buffer.from(bytes).toString()).to.equal(`info-set guestinfo.a ${value}`);
    }
  });

  it("refuses keys that would change the command", () => {
    const names = [
      "",
      " ",
      "a b",
      " a",
      "a ",
      "a\0b",
      "a\nb",
      "a=b",
      'a"b',
      "a#b",
      "a\\b",
      "ä",
      "a\tb",
      "a\x7f",
    ];
    for (const name of names) {
      expect(
        codeOf(() => infoGet(`guestinfo.${name}`)),
        JSON.stringify(name),
      ).to.equal("ERR_KEY_INVALID");
      expect(codeOf(() => infoSet(`guestinfo.${name}`, Buffer.from("v")))).to.equal("ERR_KEY_INVALID");
    }
    for (const key of ["", "x", "guestinfo", "guestinfo.", "machine.id", "xguestinfo.a"])
      expect(
        codeOf(() => checkKey(key)),
        key,
      ).to.equal("ERR_KEY_INVALID");
  });

  it("takes every character of keys in use, in any case of the prefix", () => {
    for (const name of ["a.b_c-d", "vmware.components/x", "svga.wddm|1", "a~b@c", "0"])
      checkKey(`guestinfo.${name}`);
    checkKey("GuestInfo.svga");
  });

  it("lets no key slip a command past the host: a property of all texts", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (name) => {
        const key = `guestinfo.${name}`;
        if (codeOf(() => infoGet(key)) !== undefined) return;
        const [verb, sent, ...rest] = text(infoGet(key).bytes).split(/[\s\0]/);
        expect([verb, sent, rest.length]).to.deep.equal(["info-get", key, 0]);
      }),
      { numRuns: 2000 },
    );
  });

  it("leaves keys with a slash to the host", () => {
    expect(codeOf(() => infoGet("guestinfo./a"))).to.equal(undefined);
    expect(codeOf(() => infoSet("guestinfo./a", Buffer.from("v")))).to.equal("ERR_READ_ONLY");
  });

  it("takes the longest key with the longest value, and not a byte more of either", () => {
    const key = `guestinfo.${"k".repeat(245)}`;
    const { bytes } = infoSet(key, Buffer.alloc(MAX_VALUE_BYTES, "v"));
    expect(bytes.length).to.equal(MAX_REQUEST_BYTES - 1);
    expect(codeOf(() => infoSet(key, Buffer.alloc(MAX_VALUE_BYTES + 1, "v")))).to.equal("ERR_VALUE_TOO_LONG");
    expect(codeOf(() => infoGet(`${key}k`))).to.equal("ERR_KEY_TOO_LONG");
  });

  it("takes a whole command of 65536 bytes and no more", () => {
    const name = "log";
    expect(command(name, Buffer.alloc(MAX_REQUEST_BYTES - 4)).bytes).to.have.length(MAX_REQUEST_BYTES);
    expect(codeOf(() => command(name, Buffer.alloc(MAX_REQUEST_BYTES - 3)))).to.equal("ERR_VALUE_TOO_LONG");
    expect(() => command("a b")).to.throw(RangeError);
    expect(() => command("")).to.throw(RangeError);
  });

  it("refuses a NUL in a value, which would end it", () => {
    expect(codeOf(() => infoSet("guestinfo.a", Buffer.from("a\0b")))).to.equal("ERR_VALUE_INVALID");
  });

  it("takes replies apart, NULs and all", () => {
    expect(decodeReply(Buffer.from("1 bar"))).to.deep.equal({
      accepted: true,
      value: Buffer.from("bar"),
    });
    expect(decodeReply(Buffer.from("1 "))).to.deep.equal({ accepted: true, value: Buffer.alloc(0) });
    expect(decodeReply(Buffer.from("1 a\0b\0"))).to.deep.equal({
      accepted: true,
      value: Buffer.from("a\0b\0"),
    });
    expect(decodeReply(Buffer.from("0 No value found"))).to.deep.equal({
      accepted: false,
      words: "No value found",
    });
  });

  it("takes nothing else for a reply", () => {
    for (const reply of ["", "1", "0", "2 x", "X", "11", "1\0", " 1 ", "OK "])
      expect(
        codeOf(() => decodeReply(Buffer.from(reply))),
        reply,
      ).to.equal("ERR_PROTOCOL");
  });

  it("maps the host's words, keeps unknown ones, and lets none of them at a terminal", () => {
    const over = "the backdoor";
    const of = (words: string): PvbusError => refusal({ name: "info-set" }, words, over);
    expect(of("Permission denied").code).to.equal("ERR_PERMISSION");
    expect(of("Unknown command").code).to.equal("ERR_NOT_SUPPORTED");
    expect(of("disabled").code).to.equal("ERR_PERMISSION");
    const odd = of("\x1b[2Jno\n");
    expect(odd.message).to.include('"?[2Jno?"').and.include(over).and.include("vmware.log");
    expect(odd.cause).to.have.property("words", "\x1b[2Jno\n");
  });
});
