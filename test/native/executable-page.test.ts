import { expect } from "chai";
import type { Libc } from "../../src/native/ffi/libc.js";
import { createExecutablePage, mappings } from "../../src/native/ffi/memory.js";
import { openLibc } from "../../src/native/ffi/open-libc.js";
import { type Declared, watchedKoffi } from "../support/watched-koffi.js";

/* linux/fcntl.h: what was done to a file in memory, and that it can be no more. */
const F_GET_SEALS = 1034;
const ALL_SEALS = 0xf;
/** endbr64; eax=edi; ret. */
const IDENTITY = Buffer.from("f30f1efa89f8c3", "hex");
const isX64Linux = process.platform === "linux" && process.arch === "x64";

/** A C library of which some functions are others. */
function libcWith(replace: (declaration: string, declared: Declared) => Declared): Libc {
  const koffi = watchedKoffi((declaration, declare) => replace(declaration, declare(declaration)));
  return openLibc(() => koffi);
}

function runs(page: bigint): boolean {
  const { koffi } = openLibc();
  return koffi.decode(page, koffi.proto("int (int)"))(7) === 7;
}

const rightsAt = (page: bigint): string | undefined =>
  mappings().find(({ start, end }) => start <= page && page < end)?.rights;

describe(`page of machine code${isX64Linux ? "" : " [pending: x86-64 Linux only]"}`, () => {
  before(function () {
    if (!isX64Linux) this.skip();
  });

  it("comes from a file that nobody can write, grow or shrink any more when it is mapped", () => {
    const real = openLibc();
    let seals = 0;
    const libc = libcWith((declaration, declared) => {
      if (!declaration.includes(" *mmap(")) return declared;
      return (...args) => {
        const fd = args[4] as number;
        seals = real.function("int fcntl(int, int, ...)")(fd, F_GET_SEALS, "int", 0);
        expect(real.function("intptr_t write(int, const void *, size_t)")(fd, Buffer.alloc(1), 1)).to.equal(
          -1,
        );
        expect(real.function("int ftruncate(int, int64_t)")(fd, 0)).to.equal(-1);
        return declared(...args);
      };
    });
    const page = createExecutablePage(IDENTITY, "linux", libc);
    // A kernel that knows the flag against execution by name has a seal for it, too.
    expect(seals & ALL_SEALS).to.equal(ALL_SEALS);
    expect([runs(page), rightsAt(page)]).to.deep.equal([true, "r-xp"]);
  });

  it("is made all the same where the kernel seals nothing, and where there are no files in memory", () => {
    for (const matching of [/\bfcntl\(/, /\bmemfd_create\(/]) {
      const libc = libcWith((declaration, declared) => (matching.test(declaration) ? () => -1 : declared));
      const page = createExecutablePage(IDENTITY, "linux", libc);
      expect([runs(page), rightsAt(page)], String(matching)).to.deep.equal([true, "r-xp"]);
    }
  });

  it("is refused in words where neither is allowed", () => {
    const libc = libcWith((declaration, declared) =>
      /\b(?:memfd_create|mprotect)\(/.test(declaration) ? () => -1 : declared,
    );
    expect(() => createExecutablePage(IDENTITY, "linux", libc)).to.throw("forbids executable memory");
    expect(() => createExecutablePage(Buffer.alloc(5000), "linux", libc)).to.throw(RangeError);
    // MAP_FAILED is no null pointer.
    const full = libcWith((declaration, declared) =>
      declaration.includes(" *mmap(") ? () => 0xffff_ffff_ffff_ffffn : declared,
    );
    expect(() => createExecutablePage(IDENTITY, "linux", full)).to.throw("forbids executable memory");
  });
});

describe("numbers of errors", () => {
  it("are found by the system's names alone, not by those of every object", () => {
    const libc = openLibc();
    for (const name of ["constructor", "__proto__", "toString", "hasOwnProperty", "", "ENOSUCH"])
      expect(libc.errnoNumber(name), name).to.deep.equal(Number.NaN);
    expect(libc.errnoName(libc.errnoNumber("EBADF"))).to.equal("EBADF");
    for (const number of [-1, 0, 1.5, 100_000, Number.NaN])
      expect(libc.errnoName(number)).to.equal(`errno ${number}`);
  });
});
