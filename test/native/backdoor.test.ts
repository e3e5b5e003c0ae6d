import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { openBackdoor } from "../../src/native/backdoor.js";
import { bulkCode, callsCode, probeCode } from "../../src/native/backdoor-code.js";
import { openCpuid } from "../../src/native/cpuid.js";
import { createExecutablePage } from "../../src/native/executable-page.js";
import { type Koffi, loadKoffi } from "../../src/native/koffi.js";
import { openVmtools } from "../../src/native/vmtools.js";
import { proveVmware, VmwareProof } from "../../src/native/vmware-proof.js";
import { ROOT } from "../support/pools.js";
import { start } from "../support/processes.js";
import { cpuidOf } from "../support/vmware.js";

const isX64Linux = process.platform === "linux" && process.arch === "x64";
const REGISTERS = 7;

function proofOf(...args: Parameters<typeof cpuidOf>): VmwareProof {
  const proof = proveVmware({ arch: "x64", cpuid: cpuidOf(...args), systemVendor: undefined });
  if (!VmwareProof.is(proof)) throw new Error(proof.refused);
  return proof;
}

/** Makes machine code callable, one instruction in it replaced by a harmless one of the same length. */
function runnable(code: Buffer, from: string, to: string): (block: Buffer, count: number) => number {
  const changed = Buffer.from(code.toString("hex").replace(from, to), "hex");
  expect(changed.equals(code)).to.equal(false);
  const koffi = loadKoffi();
  const page = createExecutablePage(changed, process.platform, koffi);
  return koffi.decode(page, koffi.proto("int64_t (void *block, int64_t count)"));
}

describe("VMware machine code", () => {
  it("is what the assembly says, byte for byte", function () {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-as-"));
    try {
      const tool = (name: string, ...args: readonly string[]): string => {
        const { status, stdout, stderr, error } = spawnSync(name, args, { cwd: folder, encoding: "utf8" });
        if (error !== undefined) throw error;
        expect(status, stderr).to.equal(0);
        return stdout;
      };
      try {
        tool("as", "--64", "-o", "o", join(ROOT, "test/support/backdoor.s"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        console.warn("      pending: no assembler (apt-get install binutils)");
        return this.skip();
      }
      tool("objcopy", "-O", "binary", "-j", ".text", "o", "bin");
      const bytes = readFileSync(join(folder, "bin"));
      const labels = tool("nm", "-n", "o")
        .trim()
        .split("\n")
        .map((line) => [line.split(" ")[2] ?? "", Number.parseInt(line, 16)] as const);
      const assembled = new Map(
        labels
          .slice(0, -1)
          .map(([name, from], at) => [name, bytes.subarray(from, labels[at + 1]?.[1]).toString("hex")]),
      );
      const ours = {
        calls_sysv_in: callsCode("in", "linux"),
        calls_sysv_vmcall: callsCode("vmcall", "linux"),
        calls_sysv_vmmcall: callsCode("vmmcall", "linux"),
        calls_win64_in: callsCode("in", "win32"),
        bulk_sysv_in: bulkCode("fill", "linux"),
        bulk_sysv_out: bulkCode("send", "linux"),
        bulk_win64_in: bulkCode("fill", "win32"),
        bulk_win64_out: bulkCode("send", "win32"),
        probe_linux_in: probeCode("in"),
        probe_linux_vmcall: probeCode("vmcall"),
        probe_linux_vmmcall: probeCode("vmmcall"),
      };
      expect(Object.keys(ours)).to.have.members([...assembled.keys()]);
      for (const [name, code] of Object.entries(ours))
        expect(code.toString("hex"), name).to.equal(assembled.get(name));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  describe("with a harmless instruction in place of the one that traps", () => {
    before(function () {
      if (!isX64Linux) this.skip();
    });

    it("hands over and takes back all seven registers", () => {
      const calls = runnable(callsCode("in", "linux"), "6830ed", "683090");
      const block = Buffer.alloc(REGISTERS * 8);
      for (let at = 0; at < REGISTERS; at++)
        block.writeBigUInt64LE(0x1111_1111_1111_1111n * BigInt(at + 1), at * 8);
      const before = Buffer.from(block);
      expect(Number(calls(block, 1))).to.equal(0);
      expect(block.equals(before)).to.equal(true);
    });

    it("executes one after the other until one fails, and tells how many it left out", () => {
      const calls = runnable(callsCode("in", "linux"), "6830ed", "683090");
      const block = Buffer.alloc(5 * REGISTERS * 8);
      const run = (successes: readonly number[]): number => {
        for (const [at, success] of successes.entries())
          block.writeBigUInt64LE(BigInt(success) << 16n, (at * REGISTERS + 2) * 8);
        return Number(calls(block, successes.length));
      };
      expect(run([1, 1, 1, 1, 1])).to.equal(0);
      expect(run([1, 1, 0, 1, 1])).to.equal(2);
      expect(run([0, 1, 1, 1, 1])).to.equal(4);
      expect(run([1, 1, 1, 1, 0])).to.equal(0);
      expect(run([0x80])).to.equal(0);
      expect(run([0x80, 1])).to.equal(1);
    });

    it("moves memory by the right registers", () => {
      // rep stosb in place of rep insb, rep lodsb in place of rep outsb: the same registers, and AL tells the bytes.
      const koffi = loadKoffi();
      const memory = Buffer.alloc(64);
      const block = Buffer.alloc(REGISTERS * 8);
      block.writeBigUInt64LE(0x41n, 0);
      block.writeBigUInt64LE(40n, 2 * 8);
      block.writeBigUInt64LE(BigInt(koffi.address(memory)), 5 * 8);
      runnable(bulkCode("fill", "linux"), "f36c", "f3aa")(block, 1);
      expect(memory.toString("latin1")).to.equal("A".repeat(40) + "\0".repeat(24));
      expect([
        block.readBigUInt64LE(2 * 8),
        block.readBigUInt64LE(5 * 8) - BigInt(koffi.address(memory)),
      ]).to.deep.equal([0n, 40n]);
      memory.write("xyz");
      block.writeBigUInt64LE(3n, 2 * 8);
      block.writeBigUInt64LE(BigInt(koffi.address(memory)), 4 * 8);
      runnable(bulkCode("send", "linux"), "f36e", "f3ac")(block, 1);
      expect(block.readUInt8(0)).to.equal("z".charCodeAt(0));
    });
  });
});

describe("VMware proof", () => {
  const judge = (
    ...[cpuid, systemVendor, arch = "x64" as const]: [
      ReturnType<typeof cpuidOf>,
      string?,
      NodeJS.Architecture?,
    ]
  ) => proveVmware({ arch, cpuid, systemVendor });
  const refused = (outcome: ReturnType<typeof proveVmware>): string | undefined =>
    VmwareProof.is(outcome) ? undefined : outcome.refused;

  it("is the processor's own word, whatever DMI says", () => {
    for (const vendor of [undefined, "VMware, Inc.", "Somebody"]) {
      const proof = judge(cpuidOf("VMwareVMware"), vendor);
      expect(proof).to.have.property("evidence", "CPUID leaf 0x40000000: VMwareVMware");
    }
  });

  it("is DMI's word where the processor hides the hypervisor, or names Windows' own", () => {
    expect(judge(cpuidOf(undefined), "VMware, Inc.")).to.have.property(
      "evidence",
      "DMI sys_vendor: VMware, Inc.",
    );
    expect(VmwareProof.is(judge(cpuidOf("Microsoft Hv"), "VMware, Inc."))).to.equal(true);
  });

  it("is refused under any other hypervisor, though DMI says VMware", () => {
    for (const signature of ["KVMKVMKVM", "XenVMMXenVMM", "TCGTCGTCGTCG", "bhyve bhyve ", "VBoxVBoxVBox", ""])
      expect(refused(judge(cpuidOf(signature), "VMware, Inc.")), signature).to.include(
        "names the hypervisor",
      );
  });

  it("does not believe the hypervisor's leaf without the hypervisor's bit", () => {
    const hidden = cpuidOf("VMwareVMware", { 1: { ecx: 0 } });
    expect(refused(judge(hidden))).to.include("neither CPUID nor DMI");
    for (const vendor of ["QEMU", "Dell Inc.", "", "Not VMware"])
      expect(refused(judge(cpuidOf(undefined), vendor))).to.be.a("string");
  });

  it("is refused without a processor to ask", () => {
    expect(refused(judge({ unreadable: "no CPUID here" }, "VMware, Inc."))).to.equal("no CPUID here");
    expect(refused(judge(cpuidOf("VMwareVMware"), undefined, "arm64"))).to.be.a("string");
    expect(VmwareProof.is(judge({ unreadable: "arm64" }, "VMware, Inc.", "arm64"))).to.equal(true);
  });

  it("knows the hypercalls that the processor offers, and encrypted memory", () => {
    const hypercalls = (ecx: number): readonly string[] =>
      proofOf("VMwareVMware", { 1073741840: { ecx } }).hypercalls;
    expect([0, 1, 2, 3].map(hypercalls)).to.deep.equal([[], ["vmmcall"], ["vmcall"], ["vmcall", "vmmcall"]]);
    const leaves = { 2147483648: { eax: 0x8000_001f }, 2147483679: { eax: 2 } };
    expect(proofOf("VMwareVMware", leaves).mayEncrypt).to.equal(true);
    expect(proofOf("VMwareVMware").mayEncrypt).to.equal(false);
  });

  it("cannot be made up", () => {
    const forged = [
      undefined,
      null,
      {},
      { evidence: "x", hypercalls: [] },
      Object.create(VmwareProof.prototype),
    ];
    for (const each of forged) {
      expect(VmwareProof.is(each)).to.equal(false);
      expect(() => openBackdoor(each as VmwareProof)).to.throw(TypeError);
    }
  });
});

describe("VMware backdoor of this process", () => {
  const isVmware = VmwareProof.is(
    proveVmware({ arch: process.arch, cpuid: openCpuid(), systemVendor: undefined }),
  );

  before(function () {
    if (!isX64Linux || isVmware) {
      console.warn("      pending: needs x86-64 Linux on anything but VMware");
      this.skip();
    }
  });

  it("is looked for in a child, whose fault ends nothing else, once in the process", async () => {
    const native = (name: string): string => JSON.stringify(`${ROOT}/dist/src/native/${name}.js`);
    const script = `
      import { readFileSync } from "node:fs";
      import { execFileSync } from "node:child_process";
      const { openBackdoor } = await import(${native("backdoor")});
      const { proveVmware } = await import(${native("vmware-proof")});
      const leaves = { 1: [0, 0, 0x80000000, 0], 0x40000000: [0x40000010, 0x61774d56, 0x4d566572, 0x65726177], 0x40000010: [0, 0, 3, 0] };
      const read = (leaf) => { const [eax = 0, ebx = 0, ecx = 0, edx = 0] = leaves[leaf] ?? []; return { eax, ebx, ecx, edx }; };
      const proof = proveVmware({ arch: "x64", cpuid: { read } });
      const pages = () => readFileSync("/proc/self/maps", "latin1").match(/memfd:pvbus/g)?.length ?? 0;
      const codes = [];
      let first;
      for (let round = 0; round < 200; round++) {
        try { openBackdoor(proof); codes.push("open"); } catch (error) { codes.push(error.code); }
        first ??= pages();
      }
      console.log(JSON.stringify([[...new Set(codes)], pages() === first, execFileSync("/bin/echo", ["well"]).toString()]));`;
    const { code, signal, stdout, stderr } = await start(process.execPath, [
      "--input-type=module",
      "-e",
      script,
    ]).done;
    expect([code, signal], stderr).to.deep.equal([0, null]);
    expect(JSON.parse(stdout)).to.deep.equal([["ERR_UNAVAILABLE"], true, "well\n"]);
  });

  it("makes no machine code without a proof: the provider's own way never comes there", async () => {
    const script = `
      import { readFileSync } from "node:fs";
      const { openPvbus } = await import(${JSON.stringify(`${ROOT}/dist/src/index.js`)});
      const outcomes = [];
      const vmware = { os: "linux", arch: "x64", cpuid: { "0x1": [0, 0, 0x80000000, 0] }, dmi: { sys_vendor: "VMware, Inc." }, files: {} };
      for (const options of [
        { interfaces: [{ type: "VMware" }] },
        { interfaces: [{ type: "VMware", options: { transport: "backdoor" } }] },
        { interfaces: [{ type: "VMware", options: { transport: "libvmtools" } }] },
        { interfaces: [{ type: "VMware" }], sysroot: "/" },
        { snapshot: vmware },
        { snapshot: vmware, interfaces: [{ type: "VMware" }] },
      ]) {
        const bus = await openPvbus(options);
        const target = bus.byType("VMware");
        if (target === undefined) outcomes.push("none");
        for (const verb of ["read", "diagnose"])
          await target?.[verb]("guestinfo.x").then((value) => outcomes.push(verb === "read" ? value : value.map((each) => each.works).join()), (error) => outcomes.push(error.code));
        await bus.close();
      }
      const pages = readFileSync("/proc/self/maps", "latin1").match(/memfd:pvbus/g)?.length ?? 0;
      console.log(JSON.stringify({ outcomes: [...new Set(outcomes)], pages }));`;
    const { code, signal, stdout, stderr } = await start(process.execPath, [
      "--input-type=module",
      "-e",
      script,
    ]).done;
    expect([code, signal], stderr).to.deep.equal([0, null]);
    const { outcomes, pages } = JSON.parse(stdout) as { outcomes: string[]; pages: number };
    expect(outcomes).to.have.members(["ERR_NO_INTERFACE", "false"]);
    // One page is CPUID's.
    expect(pages).to.equal(1);
  });

  it("is a clean ERR_NO_INTERFACE on the command line, no signal", async () => {
    const program = join(ROOT, "dist/bin/pvbus.cjs");
    for (const args of [
      ["get", "x"],
      ["get", "guestinfo.x"],
      ["set", "guestinfo.x", "y"],
      ["watch", "guestinfo.x"],
      ["-o", "transport=backdoor", "get", "guestinfo.x"],
    ]) {
      const { code, signal, stdout, stderr } = await start(process.execPath, [
        program,
        "-t",
        "VMware",
        ...args,
      ]).done;
      expect([code, signal, stdout], stderr).to.deep.equal([1, null, ""]);
      expect(stderr).to.include("ERR_NO_INTERFACE");
    }
  });

  it("needs native calls, and a system that it is made for", () => {
    const proof = proofOf("VMwareVMware");
    const missing = (): Koffi => {
      throw Object.assign(new Error("no koffi"), { code: "ERR_UNAVAILABLE" });
    };
    expect(() => openBackdoor(proof, { koffi: missing })).to.throw("no koffi");
    for (const other of [{ platform: "freebsd" }, { arch: "arm64" }, { platform: "openbsd" }] as const)
      expect(() => openBackdoor(proof, other)).to.throw(/libvmtools|open-vm-tools/);
  });
});

describe("VMware's own library", () => {
  it("says how to get it where it is not installed", () => {
    expect(() => openVmtools(loadKoffi, ["libnotthere.so.0"])).to.throw(/install open-vm-tools/);
  });

  it("finds no VMware here, and ends nothing", function () {
    try {
      openVmtools();
      expect.fail("it found VMware");
    } catch (error) {
      const { message } = error as Error;
      if (message.includes("cannot be loaded")) {
        console.warn("      pending: no libvmtools (apt-get install open-vm-tools)");
        return this.skip();
      }
      expect(message).to.include("finds no VMware here");
    }
  });
});
