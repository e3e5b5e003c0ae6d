import { readFileSync } from "node:fs";
import { expect } from "chai";
import { koffiBinary, loadKoffi } from "../../src/native/ffi/koffi.js";
import { type ElfImage, importSlots } from "../../src/native/ffi/throw-guard.js";
import { pending } from "../support/pending.js";

/** Lays an ELF file out as the dynamic linker does, at address 0. */
function imageOf(file: Buffer): ElfImage {
  const first = Number(file.readBigUInt64LE(32));
  const loads = Array.from({ length: file.readUInt16LE(56) }, (_, index) => first + index * 56)
    .filter((at) => file.readUInt32LE(at) === 1)
    .map((at) => [8, 16, 32].map((field) => Number(file.readBigUInt64LE(at + field))));
  return {
    base: 0,
    read(address, bytes) {
      for (const [offset = 0, start = 0, size = 0] of loads)
        if (address >= start && address + bytes <= start + size)
          return file.subarray(address - start + offset, address - start + offset + bytes);
      throw new RangeError("outside of the object");
    },
  };
}

describe("imported functions of an ELF object", () => {
  let file: Buffer;

  before(function () {
    if (process.platform !== "linux") return pending(this, "koffi as an ELF object");
    file = readFileSync(koffiBinary(loadKoffi()) as string);
  });

  it("of koffi have aligned slots of their own", () => {
    const slots = importSlots(imageOf(file));
    expect([...slots.keys()]).to.include.members(["napi_throw", "napi_create_function", "dlopen"]);
    expect(new Set(slots.values()).size).to.equal(slots.size);
    for (const slot of slots.values()) expect(slot % 8).to.equal(0);
  });

  it("are none in what is no such object, and nothing outside of one is read", () => {
    for (const [at, value] of [
      [0, 0],
      [4, 1],
      [5, 2],
      [18, 3],
      [54, 1],
    ] as const) {
      const other = Buffer.from(file);
      other.writeUInt8(value, at);
      expect(
        importSlots({ base: 0, read: (from, bytes) => other.subarray(from, from + bytes) }).size,
      ).to.equal(0);
    }
    const far = Buffer.from(file);
    far.writeBigUInt64LE(1n << 40n, 32);
    expect(() => importSlots(imageOf(file.subarray(0, 64)))).to.throw();
    expect(() =>
      importSlots({ ...imageOf(file), read: (_, bytes) => far.subarray(0, bytes) }),
    ).not.to.throw();
  });
});
