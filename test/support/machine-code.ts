import { expect } from "chai";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { createExecutablePage } from "../../src/native/ffi/memory.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { backdoorCode, backdoorTarget } from "../../src/native/vmware/backdoor-code.js";
import { pending } from "./pending.js";

const REGISTERS = 7;
const [ECX, ESI, EDI] = [2, 4, 5];

/** On arm64 the trap and the hint that stands in for it; on x86-64 their opcodes. */
const HARMLESS = { in: ["6830ed", "683090"], mrs: ["1f0133d5", "1f2003d5"] } as const;

/** Makes machine code callable, one instruction in it replaced by a harmless one of the same length. */
function runnable(
  code: Buffer,
  [from, to]: readonly [string, string],
): (block: Buffer, count: number) => number {
  const changed = Buffer.from(code.toString("hex").replace(from, to), "hex");
  expect(changed.equals(code)).to.equal(false);
  const koffi = loadKoffi();
  const page = createExecutablePage(changed, process.platform, openLibc());
  return koffi.decode(page, koffi.proto("int64_t (void *block, int64_t count)"));
}

/** Describes this system's machine code with a harmless instruction in place of the one that traps. */
export function describeMachineCode(): void {
  const target = backdoorTarget(process.platform, process.arch);
  const trap = target === "linux-arm64" ? "mrs" : "in";

  describe(`with a harmless instruction in place of the one that traps, on ${target}`, () => {
    before(function () {
      if (target === undefined) {
        return pending(this, "there is no machine code for this system");
      }
    });
    const code = () => backdoorCode(target ?? "linux-x64", trap);

    it("hands over and takes back all seven registers", () => {
      const calls = runnable(code().calls, HARMLESS[trap]);
      const block = Buffer.alloc(REGISTERS * 8);
      for (let at = 0; at < REGISTERS; at++)
        block.writeBigUInt64LE(0x1111_1111_1111_1111n * BigInt(at + 1), at * 8);
      const before = Buffer.from(block);
      expect(Number(calls(block, 1))).to.equal(0);
      expect(block.equals(before)).to.equal(true);
    });

    it("executes one after the other until one fails, and tells how many it left out", () => {
      const calls = runnable(code().calls, HARMLESS[trap]);
      const block = Buffer.alloc(5 * REGISTERS * 8);
      const run = (successes: readonly number[]): number => {
        for (const [at, success] of successes.entries())
          block.writeBigUInt64LE(BigInt(success) << 16n, (at * REGISTERS + ECX) * 8);
        return Number(calls(block, successes.length));
      };
      expect(run([1, 1, 1, 1, 1])).to.equal(0);
      expect(run([1, 1, 0, 1, 1])).to.equal(2);
      expect(run([0, 1, 1, 1, 1])).to.equal(4);
      expect(run([1, 1, 1, 1, 0])).to.equal(0);
      expect(run([0x80])).to.equal(0);
      expect(run([0x80, 1])).to.equal(1);
    });

    it("leaves the caller's registers alone: a long computation around it comes out right", () => {
      const calls = runnable(code().calls, HARMLESS[trap]);
      const block = Buffer.alloc(REGISTERS * 8, 0xa5);
      let sum = 0;
      for (let round = 0; round < 200_000; round++) sum += (round % 7) * 1.5 + Number(calls(block, 1));
      expect(sum).to.equal(899_991);
    });

    // ARM has no string instructions: there it moves no memory.
    if (trap !== "in") return;
    it("moves memory by the right registers", () => {
      // rep stosb in place of rep insb, rep lodsb in place of rep outsb: the same registers, and AL tells the bytes.
      const koffi = loadKoffi();
      const memory = Buffer.alloc(64);
      const address = BigInt(koffi.address(memory));
      const block = Buffer.alloc(REGISTERS * 8);
      block.writeBigUInt64LE(0x41n, 0);
      block.writeBigUInt64LE(40n, ECX * 8);
      block.writeBigUInt64LE(address, EDI * 8);
      runnable(code().fill, ["f36c", "f3aa"])(block, 1);
      expect(memory.toString("latin1")).to.equal("A".repeat(40) + "\0".repeat(24));
      expect([block.readBigUInt64LE(ECX * 8), block.readBigUInt64LE(EDI * 8) - address]).to.deep.equal([
        0n,
        40n,
      ]);
      memory.write("xyz");
      block.writeBigUInt64LE(3n, ECX * 8);
      block.writeBigUInt64LE(address, ESI * 8);
      runnable(code().send, ["f36e", "f3ac"])(block, 1);
      expect(block.readUInt8(0)).to.equal("z".charCodeAt(0));
    });
  });
}
