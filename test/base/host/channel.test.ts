import { expect } from "chai";
import { PvbusError } from "../../../src/base/errors.js";
import { type ChannelGrammar, formsOf, parseChannel, readChannel } from "../../../src/base/host/channel.js";

const LIVE = { sysroot: undefined };
const ALL = { unix: true, port: true, serial: true, device: true, vsock: true } as const;
const KVM: ChannelGrammar<"unix" | "port" | "vsock"> = {
  of: "KVM",
  kinds: { unix: true, port: "port:PATH (or a port's name)", vsock: true },
};

function errorOf(action: () => unknown): PvbusError {
  try {
    action();
  } catch (error) {
    if (PvbusError.is(error)) return error;
    throw error;
  }
  return expect.fail("nothing was thrown");
}

describe("channels", () => {
  it("are taken apart by their kind", () => {
    for (const kind of ["unix", "port", "serial", "device"] as const)
      expect(readChannel(`${kind}:/a:b c`, ALL)).to.deep.equal({
        kind,
        text: `${kind}:/a:b c`,
        path: "/a:b c",
      });
    expect(readChannel("unix:a\nb", ALL)).to.have.property("path", "a\nb");
    expect(readChannel("vsock:4294967295:0", ALL)).to.deep.equal({
      kind: "vsock",
      text: "vsock:4294967295:0",
      cid: 0xffff_ffff,
      port: 0,
    });
  });

  it("of a guest's vsock on its host are a path and a port", () => {
    const kinds = { unix: true, connect: true, "vsock-socket": true } as const;
    expect(readChannel("vsock:/run/vm:1:5000", kinds)).to.deep.equal({
      kind: "vsock-socket",
      text: "vsock:/run/vm:1:5000",
      path: "/run/vm:1",
      port: 5000,
    });
    expect(readChannel("connect:/x", kinds)).to.have.property("kind", "connect");
    for (const wrong of ["vsock:/x", "vsock::1", "vsock:/x:", "vsock:/x:4294967296", "vsock:/x:1 "])
      expect(readChannel(wrong, kinds), wrong).to.equal(undefined);
    expect(formsOf(kinds)).to.equal("unix:PATH, connect:PATH or vsock:PATH:PORT");
  });

  for (const wrong of [
    "",
    ":",
    "unix",
    "unix:",
    ":/x",
    "file:/x",
    "UNIX:/x",
    " unix:/x",
    "unix:a\0b",
    "vsock:1",
    "vsock:1:",
    "vsock:1:x",
    "vsock:4294967296:1",
    "vsock:1:2:3",
    "vsock:-1:2",
    "vsock:00000000001:2",
    "serial:/dev/ttyS1",
    "__proto__:x",
    "constructor:x",
    "toString:x",
  ])
    it(`of KVM are not ${JSON.stringify(wrong)}, and the error names the forms`, () => {
      const { code, message } = errorOf(() => parseChannel(wrong, KVM, LIVE));
      expect(code).to.equal("ERR_NOT_SUPPORTED");
      expect(message).to.include("KVM has no channel");
      expect(message).to.include("unix:PATH, port:PATH (or a port's name) or vsock:CID:PORT");
    });

  it("are told in part where they are endless", () => {
    const { message } = errorOf(() => parseChannel("x".repeat(1_000_000), KVM, LIVE));
    expect(message.length).to.be.lessThan(400);
  });

  it("of a socket have a path that the system takes, but below a sysroot", () => {
    const long = `unix:/${"x".repeat(200)}`;
    expect(errorOf(() => parseChannel(long, KVM, LIVE)).code).to.equal("ERR_UNAVAILABLE");
    expect(parseChannel(long, KVM, { sysroot: "/tree" })).to.have.property("path", long.slice(5));
    expect(parseChannel(`port:/${"x".repeat(200)}`, KVM, LIVE)).to.have.property("kind", "port");
  });
});
