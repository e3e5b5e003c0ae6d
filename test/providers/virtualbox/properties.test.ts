import { expect } from "chai";
import {
  decodeEvent,
  decodeFlags,
  decodeProperties,
  decodeValueAndFlags,
  encodeFlags,
  encodeName,
  encodePattern,
  encodeValue,
} from "../../../providers/virtualbox/protocol/properties.js";
import { errnoError, statusError } from "../../../providers/virtualbox/protocol/status.js";
import { PvbusError } from "../../../src/index.js";

const bytes = (text: string): Buffer => Buffer.from(text.replaceAll("·", "\0"));
const refuses = (run: () => unknown, code: string): void => {
  expect(run).to.throw(PvbusError).with.property("code", code);
};

describe("texts of guest properties", () => {
  it("are refused before anything is sent where the service would cut or refuse them", () => {
    expect(encodeName("é☃ \n").toString()).to.equal("é☃ \n\0");
    expect(encodeName("n".repeat(63))).to.have.length(64);
    refuses(() => encodeName("n".repeat(64)), "ERR_KEY_TOO_LONG");
    refuses(() => encodeName("é".repeat(32)), "ERR_KEY_TOO_LONG");
    for (const name of ["", "/emb\0x", "/s*", "a?", "a|b", "a\uffff", "a\ufffe"])
      refuses(() => encodeName(name), "ERR_KEY_INVALID");

    expect(encodeValue(bytes(""))).to.deep.equal(bytes("·"));
    expect(encodeValue(Buffer.alloc(1023, "v"))).to.have.length(1024);
    refuses(() => encodeValue(Buffer.alloc(1024, "v")), "ERR_VALUE_TOO_LONG");
    for (const value of [
      bytes("a·b"),
      Buffer.from([0xff]),
      Buffer.from("\uffff"),
      Buffer.from([0xed, 0xa0, 0x80]),
    ])
      refuses(() => encodeValue(value), "ERR_VALUE_INVALID");

    expect(encodeFlags(["TRANSIENT", "RDONLYHOST"])).to.deep.equal(bytes("TRANSIENT,RDONLYHOST·"));
    expect(() => encodeFlags(["transient"])).to.throw(TypeError);
    expect(encodePattern("p".repeat(1023))).to.have.length(1024);
    refuses(() => encodePattern("p".repeat(1024)), "ERR_KEY_TOO_LONG");
  });

  it("are read as they were recorded", () => {
    expect(decodeValueAndFlags(bytes("v1··"))).to.deep.equal({ value: bytes("v1"), flags: [] });
    expect(decodeValueAndFlags(bytes("··"))).to.deep.equal({ value: bytes(""), flags: [] });
    expect(decodeValueAndFlags(bytes("x·TRANSIENT, TRANSRESET·")).flags).to.deep.equal([
      "TRANSIENT",
      "TRANSRESET",
    ]);
    expect(decodeFlags("READONLY, SOMETHING")).to.deep.equal(["READONLY"]);
    const listing = "/e/x/3·three·343000··/e/1·one·338000··/e/2·two·340000·TRANSIENT·····";
    expect([...decodeProperties(bytes(listing))]).to.deep.equal([
      { name: "/e/x/3", value: bytes("three"), timestamp: 343000n, flags: [] },
      { name: "/e/1", value: bytes("one"), timestamp: 338000n, flags: [] },
      { name: "/e/2", value: bytes("two"), timestamp: 340000n, flags: ["TRANSIENT"] },
    ]);
    expect([...decodeProperties(bytes("····"))]).to.deep.equal([]);
    expect(decodeEvent(bytes("/n/b·2·TRANSIENT·1·"))).to.deep.equal({
      name: "/n/b",
      value: bytes("2"),
      flags: ["TRANSIENT"],
      deleted: true,
    });
    expect(decodeEvent(bytes("/n/a·new··")).deleted, "an old host").to.equal(false);
  });

  it("are an error where they do not end, or are no texts at all", () => {
    for (const text of ["", "v1", "v1·", "v1·flags"])
      refuses(() => decodeValueAndFlags(bytes(text)), "ERR_PROTOCOL");
    for (const text of [
      "",
      "/a",
      "/a·v·12",
      "/a·v·12·f",
      "/a·v·12·f·",
      "/a·v·x·f··",
      "/a·v···",
      `/a·v·${"9".repeat(21)}···`,
    ])
      refuses(() => [...decodeProperties(bytes(text))], "ERR_PROTOCOL");
    for (const text of ["", "·", "/a·v", "/a·v·f", "/a·v·f·1", "·v·f·0·"])
      refuses(() => decodeEvent(bytes(text)), "ERR_PROTOCOL");
  });
});

describe("statuses of VirtualBox", () => {
  for (const [status, code] of [
    [10, "ERR_READ_ONLY"],
    [-10, "ERR_READ_ONLY"],
    [-38, "ERR_READ_ONLY"],
    [-2, "ERR_KEY_INVALID"],
    [-53, "ERR_VALUE_INVALID"],
    [-11, "ERR_NOT_SUPPORTED"],
    [-12, "ERR_NOT_SUPPORTED"],
    [-37, "ERR_NOT_SUPPORTED"],
    [-40, "ERR_TIMEOUT"],
    [-8, "ERR_BUSY"],
    [-80, "ERR_BUSY"],
    [-2908, "ERR_BUSY"],
    [-2909, "ERR_BUSY"],
    [-2900, "ERR_UNAVAILABLE"],
    [-4, "ERR_DISCONNECTED"],
    [-2904, "ERR_DISCONNECTED"],
    [-2905, "ERR_DISCONNECTED"],
    [-4242, "ERR_PROTOCOL"],
  ] as const)
    it(`${status} is ${code}`, () => {
      const error = statusError(status);
      expect(error.code).to.equal(code);
      expect(error.message).to.contain(`${status}`);
    });

  for (const [errno, code] of [
    ["EINVAL", "ERR_DISCONNECTED"],
    ["ETIMEDOUT", "ERR_TIMEOUT"],
    ["EMFILE", "ERR_BUSY"],
    ["ENOMEM", "ERR_BUSY"],
    ["ENOTTY", "ERR_PROTOCOL"],
    ["EFAULT", "ERR_PROTOCOL"],
  ] as const)
    it(`${errno} is ${code}`, () => {
      expect(errnoError(errno).code).to.equal(code);
    });
});
