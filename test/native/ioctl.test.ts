import { closeSync, openSync, writeSync } from "node:fs";
import { expect } from "chai";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { NativeBlock } from "../../src/native/ffi/memory.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { collectGarbage, socketPair } from "../support/descriptors.js";

const isLinux = process.platform === "linux";
/** Bytes that can be read (asm-generic/ioctls.h). */
const FIONREAD = 0x541b;

describe(`ioctl${isLinux ? "" : " [pending: Linux only]"}`, () => {
  before(function () {
    if (!isLinux) this.skip();
  });

  it("fills bytes, and a block of native memory by its address", () => {
    const [mine, peer] = socketPair("stream");
    const libc = openLibc();
    writeSync(peer, "12345");
    const answer = Buffer.alloc(4);
    expect(libc.ioctl(mine, FIONREAD, answer)).to.equal(0);
    using block = new NativeBlock(libc.koffi, 4);
    libc.ioctl(mine, FIONREAD, block.address);
    expect([answer.readInt32LE(), block.bytes.readInt32LE()]).to.deep.equal([5, 5]);
    closeSync(mine);
    closeSync(peer);
  });

  it("throws the system's error, for requests above 2^31 too", () => {
    const libc = openLibc();
    const fd = openSync("/dev/null", "r");
    for (const request of [FIONREAD, 0xc020_5601]) {
      expect(() => libc.ioctl(fd, request, Buffer.alloc(32)))
        .to.throw()
        .with.property("code", "ENOTTY");
    }
    closeSync(fd);
    expect(() => libc.ioctl(fd, FIONREAD, Buffer.alloc(4)))
      .to.throw()
      .with.property("code", "EBADF");
  });
});

describe("blocks of native memory", () => {
  const koffi = loadKoffi();

  it("begin zeroed, keep what is written, and are released once", () => {
    const block = new NativeBlock(koffi, 100);
    expect(block.bytes.equals(Buffer.alloc(100))).to.equal(true);
    block.bytes.write("kept");
    collectGarbage();
    expect(block.bytes.toString("latin1", 0, 4)).to.equal("kept");
    expect(koffi.decode(block.address, "char", 4)).to.equal("kept");
    block.free();
    block.free();
    expect(() => block.bytes).to.throw("released");
  });

  it("may be made and released often, the memory used again", () => {
    for (let i = 0; i < 20_000; i++) {
      using block = new NativeBlock(koffi, 64 + (i % 7) * 512);
      block.bytes.writeUInt32LE(i, 0);
    }
    collectGarbage();
    using block = new NativeBlock(koffi, 64);
    expect(block.bytes.readUInt32LE(0)).to.equal(0);
  });
});
