import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import fc from "fast-check";
import { HostctlError } from "../../src/base/hostctl-error.js";
import { openBusDevice, type PvbusDevice, type PvbusDevices } from "../../src/cli/hostctl/devices.js";
import { parseHostctl, runHostctl } from "../../src/cli/hostctl/run.js";
import { encodeVis } from "../../src/cli/hostctl/text.js";
import { type Bus, openPvbus } from "../../src/index.js";
import { simulatedVmware, simulatedXen } from "../support/kernel-simulators.js";
import { fixture, PoolTree, ROOT } from "../support/pools.js";

const USAGE = "usage: hostctl [-qt] [-f device] [-i input] [-o output] key [value]\n";
const INVALID = "hostctl: ioctl: Invalid argument\n";

/** Runs hostctl in this process. */
async function hostctl(
  devices: PvbusDevices,
  argv: readonly string[],
  input = "",
): Promise<{ stdout: string; stderr: string; code: number }> {
  let stdout = "";
  let stderr = "";
  const code = await runHostctl(argv, {
    stdout: { write: (data) => (stdout += Buffer.from(data as Uint8Array).toString("latin1")) },
    stderr: { write: (data) => (stderr += data) },
    readInput: async () => Buffer.from(input),
    devices,
  });
  return { stdout, stderr, code };
}

function devicesOn(bus: Bus): PvbusDevices {
  return { open: (name) => openBusDevice(bus, name) };
}

/** Devices by name; others do not exist. */
function devicesOf(devices: Readonly<Record<string, PvbusDevice>>, writable = true): PvbusDevices {
  return {
    open: async (name, mode) => {
      const device = devices[name];
      if (device === undefined) throw new HostctlError("ENOENT");
      if (mode === "write" && !writable) throw new HostctlError("EACCES");
      return device;
    },
  };
}

/** A bus that a recorded machine decides; CPUID signatures by base. */
async function recordedBus(signatures: readonly string[]): Promise<Bus> {
  const leaves: Record<string, unknown> = {
    "0x00000001": { eax: "0x0", ebx: "0x0", ecx: signatures.length > 0 ? "0x80000000" : "0x0", edx: "0x0" },
  };
  for (const [index, signature] of signatures.entries()) {
    const bytes = Buffer.alloc(12);
    bytes.write(signature, "latin1");
    const word = (at: number): string => `0x${bytes.readUInt32LE(at).toString(16)}`;
    leaves[`0x${(0x40000000 + index * 0x100).toString(16)}`] = {
      eax: "0x40000001",
      ebx: word(0),
      ecx: word(4),
      edx: word(8),
    };
  }
  return openPvbus({ snapshot: { os: "linux", arch: "x64", cpuid: { leaves }, dmi: null, files: {} } });
}

describe("hostctl", () => {
  let tree: PoolTree;
  let hyperv: PvbusDevices;
  let bus: Bus;
  const vmware = (): PvbusDevices =>
    devicesOf({
      "/dev/pvbus0": simulatedVmware(
        new Map([
          ["guestinfo.hostname", "vm-111"],
          ["guestinfo.big", "x".repeat(10_000)],
          ["guestinfo.huge", "x".repeat(70_000)],
        ]),
      ),
    });
  const xen = (): PvbusDevices =>
    devicesOf({
      "/dev/pvbus0": simulatedXen(
        new Map([
          ["device", ""],
          ["device/vif", "1"],
          ["device/vbd", "2"],
          ["device/vif/0/mac", "00:16:3e:00:00:01"],
        ]),
        "/local/domain/0",
      ),
    });

  beforeEach(async () => {
    tree = new PoolTree();
    tree.put(3, fixture("pool3_parameters.bin"));
    tree.put(0, fixture("pool0_basic.bin"));
    bus = await openPvbus({ sysroot: tree.sysroot, interfaces: [{ type: "Hyper-V" }] });
    hyperv = devicesOn(bus);
  });
  afterEach(async () => {
    await bus.close();
    await tree[Symbol.asyncDispose]();
  });

  /** The reference's checklist: number, what is done, standard output, standard error, exit code. */
  describe("answers the checklist", () => {
    type Row = readonly [
      number,
      () => PvbusDevices | Promise<PvbusDevices>,
      readonly string[],
      string,
      string,
      number,
      string?,
    ];
    const recorded =
      (...signatures: string[]) =>
      async (): Promise<PvbusDevices> =>
        devicesOn(await recordedBus(signatures));
    const kvm = recorded("KVMKVMKVM");
    const pools = (): PvbusDevices => hyperv;
    const forbidden = (): PvbusDevices => ({
      open: async () => {
        throw new HostctlError("EACCES");
      },
    });
    const readOnly = (): PvbusDevices => devicesOf({ "/dev/pvbus0": simulatedVmware(new Map()) }, false);
    const long = "k".repeat(5000);
    const rows: readonly Row[] = [
      [1, kvm, ["-t"], "/dev/pvbus0: KVM\n", "", 0],
      [2, pools, ["-t", "-q", "x", "y", "z"], "/dev/pvbus0: Hyper-V\n", "", 0],
      [3, recorded("Microsoft Hv", "XenVMMXenVMM"), ["-f", "/dev/pvbus1", "-t"], "/dev/pvbus1: Xen\n", "", 0],
      [4, recorded("OpenBSDVMM58"), ["-t"], "/dev/pvbus0: OpenBSD\n", "", 0],
      [5, vmware, ["guestinfo.hostname"], "vm-111\n", "", 0],
      [6, vmware, ["guestinfo.nope"], "", INVALID, 1],
      [7, vmware, ["guestinfo.ip", "192.0.2.7"], "", "", 0],
      [8, vmware, ["guestinfo.big"], `${"x".repeat(10_000)}\n`, "", 0],
      [9, xen, ["device/vif/0/mac"], "00:16:3e:00:00:01\n", "", 0],
      [10, xen, ["device"], "vif\nvbd\n", "", 0],
      [11, xen, ["nope"], "", "hostctl: ioctl: No such file or directory\n", 1],
      [12, xen, ["/local/domain/0/name", "x"], "", "hostctl: ioctl: Permission denied\n", 1],
      [13, pools, ["Guest/Parameters/HostName"], "HV-HOST-01\n", "", 0],
      [14, pools, ["Guest/"], "", "", 0],
      [15, pools, ["Guest/foo", "bar"], "bar\n", "", 0],
      [17, pools, ["-q", "Guest/foo2", "bar"], "", "", 0],
      [18, pools, ["External/foo", "bar"], "", INVALID, 1],
      [19, pools, ["Auto/NotThere", "x"], "", "hostctl: ioctl: No such file or directory\n", 1],
      [20, pools, ["HostName"], "", INVALID, 1],
      [21, pools, ["guest/parameters/HostName"], "HV-HOST-01\n", "", 0],
      [21, pools, ["guest/parameters/hostname"], "", "hostctl: ioctl: No such file or directory\n", 1],
      [22, kvm, ["anything"], "", "hostctl: ioctl: Device not configured\n", 1],
      [23, recorded(), ["-t"], "", "hostctl: open: /dev/pvbus0: Operation not supported by device\n", 1],
      [24, kvm, ["-f", "/dev/pvbus1", "-t"], "", "hostctl: open: /dev/pvbus1: Device not configured\n", 1],
      [
        25,
        kvm,
        ["-f", "/dev/pvbus7", "-t"],
        "",
        "hostctl: open: /dev/pvbus7: No such file or directory\n",
        1,
      ],
      [26, forbidden, ["-t"], "", "hostctl: open: /dev/pvbus0: Permission denied\n", 1],
      [27, readOnly, ["guestinfo.ip", "192.0.2.7"], "", "hostctl: open: /dev/pvbus0: Permission denied\n", 1],
      [28, pools, [], "", USAGE, 1],
      [29, pools, ["-e", "k"], "", `hostctl: unknown option -- e\n${USAGE}`, 1],
      [30, pools, ["-f"], "", `hostctl: option requires an argument -- f\n${USAGE}`, 1],
      [31, pools, ["-i", "-", "k", "v"], "", USAGE, 1],
      [32, pools, ["-i", "/nonexistent", "k"], "", "hostctl: input file\n", 1],
      [33, pools, ["-i", "/dev/null", "k"], "", "hostctl: input file\n", 1],
      [34, pools, ["-i", "-", "Guest/multi"], "one\n", "", 0, "one\ntwo\n"],
      [35, pools, ["Guest/bs", "a\\b"], "a\\\\\\\\b\n", "", 0],
      [36, pools, [long], "", "hostctl: key too long\n", 1],
      [37, pools, ["k", long], "", "hostctl: value too long\n", 1],
      [40, pools, ["-o", "/nodir/x", "k"], "", "hostctl: fopen: /nodir/x: No such file or directory\n", 1],
    ];
    for (const [number, world, argv, stdout, stderr, code, input] of rows) {
      it(`row ${number}: hostctl ${argv.map((word) => word.slice(0, 30)).join(" ")}`, async () => {
        expect(await hostctl(await world(), argv, input)).to.deep.equal({ stdout, stderr, code });
      });
    }

    it("row 16: a name that Guest has is not overwritten", async () => {
      await hostctl(hyperv, ["Guest/foo", "bar"]);
      expect(await hostctl(hyperv, ["Guest/foo", "baz"])).to.deep.equal({
        stdout: "",
        stderr: "hostctl: ioctl: File exists\n",
        code: 1,
      });
      expect((await hostctl(hyperv, ["Guest/foo"])).stdout).to.equal("bar\n");
    });

    it("rows 38 and 39: -o makes its file before it reads", async () => {
      const file = join(tree.sysroot, "out.txt");
      expect((await hostctl(vmware(), ["-o", file, "guestinfo.nope"])).stderr).to.equal(INVALID);
      expect(readFileSync(file, "utf8")).to.equal("");
      expect(await hostctl(vmware(), ["-o", file, "guestinfo.hostname"])).to.deep.equal({
        stdout: "",
        stderr: "",
        code: 0,
      });
      expect(readFileSync(file, "utf8")).to.equal("vm-111\n");
    });
  });

  it("gives up where the value outgrows the largest buffer", async () => {
    expect((await hostctl(vmware(), ["guestinfo.huge"])).stderr).to.equal(
      "hostctl: ioctl: Result too large\n",
    );
  });

  it("lists a pool for a read and for a write, in order of insertion", async () => {
    await hostctl(hyperv, ["Guest/b", "1"]);
    await hostctl(hyperv, ["Guest/a", "2"]);
    for (const argv of [["Guest/"], ["Guest/", "x"]])
      expect((await hostctl(hyperv, argv)).stdout).to.equal("b\na\n");
    expect((await hostctl(hyperv, ["Guest/a/b"])).stderr).to.equal(INVALID);
    expect((await hostctl(hyperv, ["Guest/Parameters"])).stderr).to.equal(
      "hostctl: ioctl: No such file or directory\n",
    );
  });

  it("opens a path that is no pvbus device, which knows no call", async () => {
    const { stderr } = await hostctl(hyperv, ["-f", "/dev/null", "k"]);
    expect(stderr).to.equal("hostctl: ioctl: Inappropriate ioctl for device\n");
    expect((await hostctl(hyperv, ["-fpvbus0", "-t"])).stdout).to.equal("pvbus0: Hyper-V\n");
  });

  it("takes values from a file up to its first line end or NUL", async () => {
    const file = join(tree.sysroot, "in");
    writeFileSync(file, "a\tb\0c");
    expect((await hostctl(hyperv, ["-i", file, "Guest/nul"])).stdout).to.equal("a\tb\n");
    mkdirSync(join(tree.sysroot, "dir"));
    expect((await hostctl(hyperv, ["-i", join(tree.sysroot, "dir"), "Guest/k"])).stderr).to.equal(
      "hostctl: input file\n",
    );
    expect((await hostctl(hyperv, ["k".repeat(4095)])).stderr).to.equal(INVALID);
    expect((await hostctl(hyperv, ["k".repeat(4096)])).stderr).to.equal("hostctl: key too long\n");
  });

  describe("option parsing", () => {
    const operands = (argv: string[]): unknown => {
      const parsed = parseHostctl(argv);
      return "complaint" in parsed
        ? parsed.complaint
        : [parsed.quiet, parsed.type, parsed.device, parsed.operands];
    };
    it("joins letters, ends at -- and at the first operand", () => {
      expect(operands(["-qtfdev", "k"])).to.deep.equal([true, true, "dev", ["k"]]);
      expect(operands(["-q", "--", "-t"])).to.deep.equal([true, false, "/dev/pvbus0", ["-t"]]);
      expect(operands(["k", "-t"])).to.deep.equal([false, false, "/dev/pvbus0", ["k", "-t"]]);
      expect(operands(["-", "-t"])).to.deep.equal([false, false, "/dev/pvbus0", ["-", "-t"]]);
      expect(operands(["-qx"])).to.equal("unknown option -- x");
      expect(operands(["--help"])).to.equal("unknown option -- -");
      expect(operands(["-qi"])).to.equal("option requires an argument -- i");
    });
  });

  describe("encoding", () => {
    const TABLE: readonly (readonly [number, string])[] = [
      [0x21, "!"],
      [0x7e, "~"],
      [0x5c, "\\\\"],
      [0x20, " "],
      [0x09, "\t"],
      [0x0a, "\n"],
      [0x07, "\x07"],
      [0x08, "\b"],
      [0x0d, "\r"],
      [0x0b, "\\v"],
      [0x0c, "\\f"],
      [0x1b, "\\^["],
      [0x01, "\\^A"],
      [0x7f, "\\^?"],
      [0xa0, "\\240"],
      [0x80, "\\M^@"],
      [0x97, "\\M^W"],
      [0xc3, "\\M-C"],
      [0xa9, "\\M-)"],
      [0xfe, "\\M-~"],
      [0xff, "\\M^?"],
    ];
    for (const [byte, expected] of TABLE) {
      it(`of byte 0x${byte.toString(16)} is ${JSON.stringify(expected)}`, () => {
        expect(encodeVis(Uint8Array.of(byte)).toString("latin1")).to.equal(expected);
      });
    }

    it("lets no control byte through but the harmless ones, and ends at a NUL", () => {
      fc.assert(
        fc.property(fc.uint8Array(), (bytes) => {
          for (const byte of encodeVis(bytes)) {
            expect((byte >= 0x20 && byte <= 0x7e) || [0x07, 0x08, 0x09, 0x0a, 0x0d].includes(byte)).to.equal(
              true,
            );
          }
        }),
      );
      expect(encodeVis(Buffer.from("a\0b")).toString()).to.equal("a");
    });
  });

  it("runs as the built program, on pool files below PVBUS_SYSROOT", () => {
    const run = (...args: string[]) => {
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [join(ROOT, "dist/bin/hostctl.cjs"), ...args],
        {
          env: { ...process.env, PVBUS_SYSROOT: tree.sysroot },
          encoding: "utf8",
          input: "",
        },
      );
      return [stdout, stderr, status];
    };
    expect(run("-t")).to.deep.equal(["/dev/pvbus0: Hyper-V\n", "", 0]);
    expect(run("External/alpha")).to.deep.equal(["one\n", "", 0]);
    expect(run("Guest/foo", "bar")).to.deep.equal(["bar\n", "", 0]);
    expect(run("Guest/foo", "baz")).to.deep.equal(["", "hostctl: ioctl: File exists\n", 1]);
    expect(run("-i", "-", "k", "v")).to.deep.equal(["", USAGE, 1]);
    const empty = mkdtempSync(join(tmpdir(), "pvbus-empty-"));
    writeFileSync(join(empty, "snapshot.json"), "{");
    const broken = spawnSync(process.execPath, [join(ROOT, "dist/bin/hostctl.cjs"), "-t"], {
      env: { ...process.env, PVBUS_SYSROOT: empty },
      encoding: "utf8",
    });
    expect(broken.stderr).to.equal("hostctl: open: /dev/pvbus0: Input/output error\n");
    rmSync(empty, { recursive: true });
    expect(existsSync(empty)).to.equal(false);
  });
});
