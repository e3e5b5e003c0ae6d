import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { expect } from "chai";
import { openCpuid } from "../../src/native/cpu/cpuid.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { start } from "../support/processes.js";

const isX64Linux = process.platform === "linux" && process.arch === "x64";

describe(`CPUID in process${isX64Linux ? "" : " [pending: x86-64 Linux only]"}`, () => {
  before(function () {
    if (!isX64Linux) this.skip();
  });

  it("answers as /dev/cpu/0/cpuid does, sub-leaves included", function () {
    const cpuid = openCpuid();
    if (!("read" in cpuid)) return expect.fail(cpuid.unreadable);
    let fd: number;
    try {
      fd = openSync("/dev/cpu/0/cpuid", "r");
    } catch (error) {
      return pending(
        this,
        `/dev/cpu/0/cpuid: ${(error as NodeJS.ErrnoException).code} (needs root and the cpuid module)`,
      );
    }
    try {
      for (const [leaf, subleaf] of [
        [0, 0],
        [4, 1],
        [7, 0],
        [0xd, 1],
        [0x40000000, 0],
      ] as const) {
        const bytes = Buffer.alloc(16);
        readSync(fd, bytes, 0, 16, (BigInt(subleaf) << 32n) | BigInt(leaf));
        const { eax, ebx, ecx, edx } = cpuid.read(leaf, subleaf);
        expect([eax, ebx, ecx, edx], `leaf ${leaf}.${subleaf}`).to.deep.equal(
          [0, 4, 8, 12].map((at) => bytes.readUInt32LE(at)),
        );
      }
    } finally {
      closeSync(fd);
    }
  });

  it("agrees with the kernel on whether a hypervisor is there", () => {
    const cpuid = openCpuid();
    if (!("read" in cpuid)) return expect.fail(cpuid.unreadable);
    const flag = /^flags\s*:.*\bhypervisor\b/m.test(readFileSync("/proc/cpuinfo", "latin1"));
    expect(cpuid.read(1).ecx >>> 31).to.equal(flag ? 1 : 0);
  });

  it("says why where it cannot be asked, and never throws", () => {
    const broken = (): never => {
      throw new Error("no native calls here");
    };
    expect(openCpuid({ koffi: broken, device: "/nonexistent" })).to.deep.equal({
      unreadable: "no native calls here",
    });
    expect(openCpuid({ arch: "arm64" })).to.have.property("unreadable");
    expect(openCpuid({ platform: "openbsd" })).to.have.property("unreadable");
    expect(openCpuid({ koffi: broken, device: "/dev/null" })).to.satisfy(
      (c: object) => "read" in c || "unreadable" in c,
    );
  });

  for (const [name, prefix] of [
    ["under a kernel that denies memory made executable", "prctl(65, 1, 0, 0, 0)"],
  ] as const) {
    it(`works ${name}, through a file in memory`, async function () {
      const script = `
        import { createRequire } from "node:module";
        const koffi = createRequire(${JSON.stringify(`${ROOT}/package.json`)})("koffi");
        const prctl = koffi.load(null).func("int prctl(int, ulong, ulong, ulong, ulong)");
        const set = ${prefix};
        const { openCpuid } = await import(${JSON.stringify(`${ROOT}/dist/src/native/cpu/cpuid.js`)});
        const cpuid = openCpuid();
        console.log(JSON.stringify({ set, read: "read" in cpuid && cpuid.read(0).eax > 0, why: cpuid.unreadable }));`;
      const { stdout, code, stderr } = await start(process.execPath, [
        "--jitless",
        "--input-type=module",
        "-e",
        script,
      ]).done;
      expect(code, stderr).to.equal(0);
      const { set, read, why } = JSON.parse(stdout);
      if (set !== 0) {
        return pending(this, "this kernel has no PR_SET_MDWE (Linux 6.3)");
      }
      expect(read, why).to.equal(true);
    });
  }

  it("does not execute the instruction where it would fault", async () => {
    const script = `
      import { createRequire } from "node:module";
      const koffi = createRequire(${JSON.stringify(`${ROOT}/package.json`)})("koffi");
      const syscall = koffi.load(null).func("long syscall(long, ...)");
      const set = syscall(158, "int", 0x1012, "ulong", 0);
      const { openCpuid } = await import(${JSON.stringify(`${ROOT}/dist/src/native/cpu/cpuid.js`)});
      const cpuid = openCpuid({ device: "/nonexistent" });
      console.log(JSON.stringify({ set, why: cpuid.unreadable }));`;
    const { stdout, code, signal } = await start(process.execPath, ["--input-type=module", "-e", script])
      .done;
    expect([code, signal]).to.deep.equal([0, null]);
    const { set, why } = JSON.parse(stdout);
    if (set === 0) expect(why).to.match(/faults/);
    else console.log("      this processor has no CPUID faulting: only the normal answer was seen");
  });
});
