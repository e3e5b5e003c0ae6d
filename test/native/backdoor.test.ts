import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { openCpuid } from "../../src/native/cpu/cpuid.js";
import type { Koffi } from "../../src/native/ffi/koffi.js";
import { openBackdoor } from "../../src/native/vmware/backdoor.js";
import { backdoorCode, backdoorTarget, trapsOf } from "../../src/native/vmware/backdoor-code.js";
import { proveVmware, VmwareProof } from "../../src/native/vmware/proof.js";
import { openVmtools } from "../../src/native/vmware/vmtools.js";
import { budget, patience, random, repeat, report } from "../support/campaign.js";
import { turn } from "../support/descriptors.js";
import { describeMachineCode } from "../support/machine-code.js";
import { openVmTools } from "../support/open-vm-tools.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { start } from "../support/processes.js";
import { cpuidOf } from "../support/vmware.js";
import { Wine } from "../support/wine.js";

const isX64Linux = process.platform === "linux" && process.arch === "x64";
/** How long signals are sent to a process that looks for the port. */
const SIGNALS_SECONDS = budget(1, 10);

function proofOf(...args: Parameters<typeof cpuidOf>): VmwareProof {
  const proof = proveVmware({ arch: "x64", cpuid: cpuidOf(...args), systemVendor: undefined });
  if (!VmwareProof.is(proof)) throw new Error(proof.refused);
  return proof;
}

describe("VMware machine code", () => {
  for (const [processor, source, prefix, ours] of [
    [
      "x86-64",
      "backdoor.s",
      "",
      {
        calls_sysv_in: backdoorCode("linux-x64", "in").calls,
        calls_sysv_vmcall: backdoorCode("linux-x64", "vmcall").calls,
        calls_sysv_vmmcall: backdoorCode("linux-x64", "vmmcall").calls,
        calls_win64_in: backdoorCode("win32-x64", "in").calls,
        bulk_sysv_in: backdoorCode("linux-x64", "in").fill,
        bulk_sysv_out: backdoorCode("linux-x64", "in").send,
        bulk_win64_in: backdoorCode("win32-x64", "in").fill,
        bulk_win64_out: backdoorCode("win32-x64", "in").send,
        probe_linux_in: backdoorCode("linux-x64", "in").probe,
        probe_linux_vmcall: backdoorCode("linux-x64", "vmcall").probe,
        probe_linux_vmmcall: backdoorCode("linux-x64", "vmmcall").probe,
        probe_win64: backdoorCode("win32-x64", "in").probe.subarray(
          0,
          backdoorCode("win32-x64", "in").handlerAt,
        ),
        handler_win64: backdoorCode("win32-x64", "in").probe.subarray(
          backdoorCode("win32-x64", "in").handlerAt,
        ),
      },
    ],
    [
      "arm64",
      "backdoor-arm64.s",
      "aarch64-linux-gnu-",
      {
        calls_arm64: backdoorCode("linux-arm64", "mrs").calls,
        bulk_arm64_in: backdoorCode("linux-arm64", "mrs").fill,
        bulk_arm64_out: backdoorCode("linux-arm64", "mrs").send,
        probe_arm64: backdoorCode("linux-arm64", "mrs").probe,
      },
    ],
  ] as const) {
    it(`is what the assembly for ${processor} says, byte for byte`, function () {
      const assembled = assemble(prefix, join(ROOT, "test/support", source));
      if (assembled === undefined) {
        return pending(this, `no ${prefix}as (apt-get install binutils${prefix && "-aarch64-linux-gnu"})`);
      }
      expect(Object.keys(ours)).to.have.members([...assembled.keys()]);
      for (const [name, code] of Object.entries(ours))
        expect(code.toString("hex"), name).to.equal(assembled.get(name));
    });
  }

  it("is there for what the reference has facts of", () => {
    const all = [
      ["linux", "x64"],
      ["linux", "arm64"],
      ["win32", "x64"],
      ["freebsd", "x64"],
      ["openbsd", "x64"],
      ["darwin", "arm64"],
      ["win32", "arm64"],
    ] as const;
    const targets = all.map(([platform, arch]) => backdoorTarget(platform, arch));
    expect(targets).to.deep.equal([
      "linux-x64",
      "linux-arm64",
      "win32-x64",
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(trapsOf("linux-x64", ["vmcall", "vmmcall"])).to.deep.equal(["in", "vmcall", "vmmcall"]);
    expect(trapsOf("win32-x64", ["vmcall"])).to.deep.equal(["in"]);
    expect(trapsOf("linux-arm64", [])).to.deep.equal(["mrs"]);
  });

  describeMachineCode();
});

/** Returns the bytes behind each label; undefined without an assembler. */
function assemble(prefix: string, source: string): ReadonlyMap<string, string> | undefined {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-as-"));
  const tool = (name: string, ...args: readonly string[]): string => {
    const { status, stdout, stderr, error } = spawnSync(prefix + name, args, {
      cwd: folder,
      encoding: "utf8",
    });
    if (error !== undefined) throw error;
    expect(status, stderr).to.equal(0);
    return stdout;
  };
  try {
    tool("as", "-o", "o", source);
    tool("objcopy", "-O", "binary", "-j", ".text", "o", "bin");
    const bytes = readFileSync(join(folder, "bin"));
    const labels = tool("nm", "-n", "o")
      .trim()
      .split("\n")
      .map((line) => [line.split(" ")[2] ?? "", Number.parseInt(line, 16)] as const)
      .filter(([name]) => !name.startsWith("$"));
    return new Map(
      labels
        .slice(0, -1)
        .map(([name, from], at) => [name, bytes.subarray(from, labels[at + 1]?.[1]).toString("hex")]),
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("VMware machine code on Windows, in wine", () => {
  it("keeps registers, moves memory, and survives the look at a port that faults", async function () {
    const why = Wine.whyNot();
    if (why !== undefined) return pending(this, why);
    this.timeout(300_000);
    await using wine = await Wine.start();
    const mocha = ["node_modules/mocha/bin/mocha.js", "--no-config", "--timeout", "60000"];
    const { code, output } = await wine.node(...mocha, "dist/test/windows/backdoor.js");
    expect(output).to.match(/\b6 passing/);
    expect(code, output).to.equal(0);
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
    expect(judge({ unreadable: "no CPUID here" }, "VMware, Inc.")).to.deep.equal({
      refused: "no CPUID here",
      isLikely: true,
    });
    expect(judge({ unreadable: "no CPUID here" }, "QEMU")).to.include({ isLikely: false });
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
      return pending(this, "needs x86-64 Linux on anything but VMware");
    }
  });

  it("is looked for in a child, whose fault ends nothing else, once in the process", async () => {
    const native = (name: string): string => JSON.stringify(`${ROOT}/dist/src/native/${name}.js`);
    const script = `
      import { readFileSync } from "node:fs";
      import { execFileSync } from "node:child_process";
      const { openBackdoor } = await import(${native("vmware/backdoor")});
      const { proveVmware } = await import(${native("vmware/proof")});
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

  it("looks again when the system had no room for a child", async () => {
    const native = (name: string): string => JSON.stringify(`${ROOT}/dist/src/native/${name}.js`);
    const script = `
      const { openBackdoor } = await import(${native("vmware/backdoor")});
      const { proveVmware } = await import(${native("vmware/proof")});
      const { loadKoffi } = await import(${native("ffi/koffi")});
      const leaves = { 1: [0, 0, 0x80000000, 0], 0x40000000: [0x40000010, 0x61774d56, 0x4d566572, 0x65726177] };
      const read = (leaf) => { const [eax = 0, ebx = 0, ecx = 0, edx = 0] = leaves[leaf] ?? []; return { eax, ebx, ecx, edx }; };
      const proof = proveVmware({ arch: "x64", cpuid: { read } });
      const real = loadKoffi();
      let children = 0;
      // The first look gets the kernel's EAGAIN in place of a child.
      const decode = (at, type) => { const run = real.decode(at, type); return (...args) => (children++ === 0 ? -11 : run(...args)); };
      const koffi = { ...real, decode };
      for (let round = 0; round < 3; round++)
        try { openBackdoor(proof, () => koffi); } catch ({ code }) { console.log(code); }
      console.log(children);`;
    const { code, stdout, stderr } = await start(process.execPath, ["--input-type=module", "-e", script])
      .done;
    expect([code, stdout], stderr).to.deep.equal([0, "ERR_BUSY\nERR_UNAVAILABLE\nERR_UNAVAILABLE\n2\n"]);
  });

  it("takes each signal to the process group once, whenever it comes", async function () {
    this.timeout(patience(SIGNALS_SECONDS));
    const child = spawn(process.execPath, [join(ROOT, "dist/test/support/probe-signals.js")], {
      detached: true,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    expect((await lines.next()).value).to.equal("ready");
    const chance = random();
    const sent: string[] = [];
    const handled: string[] = [];
    const next = async (): Promise<string> => (await lines.next()).value ?? "";
    await repeat(SIGNALS_SECONDS, async (round) => {
      const signal = (["SIGUSR2", "SIGWINCH", "SIGHUP"] as const)[round % 3] as NodeJS.Signals;
      process.kill(-(child.pid as number), signal);
      sent.push(signal);
      // One at a time, since those of one kind that wait are one; and in any moment of a look.
      handled.push(await next());
      for (let turns = chance.below(20); turns > 0; turns--) await turn();
    });
    child.stdin.end("stop\n");
    const looks: string[] = [];
    for await (const line of lines) (line.startsWith("SIG") ? handled : looks).push(line);
    expect(await exited).to.deep.equal([0, null]);
    report("signals to the group of a process that looks for the port", {
      sent: sent.length,
      handled: handled.length,
      looks: looks.join(),
    });
    expect(handled).to.deep.equal(sent);
    expect(Number(looks[0])).to.be.greaterThan(5);
  });

  it("leaves the signals of the thread as they were, also when there is no child", async () => {
    const native = (name: string): string => JSON.stringify(`${ROOT}/dist/src/native/${name}.js`);
    const script = `
      import { readFileSync } from "node:fs";
      const { withoutSignals } = await import(${native("vmware/backdoor-machine")});
      const { openLibc } = await import(${native("ffi/open-libc")});
      const held = () => /SigBlk:\\s*(\\w+)/.exec(readFileSync("/proc/thread-self/status", "latin1"))[1];
      const seen = [held()];
      seen.push(withoutSignals(openLibc(), held), held());
      try { withoutSignals(openLibc(), () => { throw new Error("no child"); }); } catch ({ message }) { seen.push(message, held()); }
      console.log(JSON.stringify(seen));`;
    const { code, stdout, stderr } = await start(process.execPath, ["--input-type=module", "-e", script])
      .done;
    expect(code, stderr).to.equal(0);
    const [before, meanwhile, after, message, last] = JSON.parse(stdout) as string[];
    expect([after, message, last]).to.deep.equal([before, "no child", before]);
    // SIGILL, SIGBUS, SIGFPE and SIGSEGV come through, and SIGKILL and SIGSTOP always do; 32 and 33 are the C library's.
    const mask = ~BigInt(`0x${meanwhile}`) & 0xffff_ffffn;
    expect(mask & ~(1n << 31n)).to.equal(
      (1n << 3n) | (1n << 6n) | (1n << 7n) | (1n << 8n) | (1n << 10n) | (1n << 18n),
    );
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

  it("needs native calls", () => {
    const proof = proofOf("VMwareVMware");
    const missing = (): Koffi => {
      throw Object.assign(new Error("no koffi"), { code: "ERR_UNAVAILABLE" });
    };
    expect(() => openBackdoor(proof, missing)).to.throw("no koffi");
  });
});

describe("VMware's own library", () => {
  it("says how to get it where it is not installed", () => {
    expect(() => openVmtools(["libnotthere.so.0"])).to.throw(/install open-vm-tools/);
  });

  it("finds no VMware here, and ends nothing", async function () {
    const tools = openVmTools();
    if ("why" in tools) {
      return pending(this, tools.why);
    }
    const script = `
      const { openVmtools } = await import(${JSON.stringify(`${ROOT}/dist/src/native/vmware/vmtools.js`)});
      try { openVmtools(); } catch ({ code, message }) { console.log(code, message); }`;
    const args = ["--input-type=module", "-e", script];
    const { code, signal, stdout, stderr } = await start(process.execPath, args, tools.env).done;
    expect([code, signal], stderr).to.deep.equal([0, null]);
    expect(stdout).to.include("ERR_UNAVAILABLE").and.include("finds no VMware here");
  });
});
