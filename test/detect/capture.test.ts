import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import type { Fact } from "../../src/base/firmware/fact.js";
import { nodeHost } from "../../src/base/host/node-host.js";
import { recordFacts } from "../../src/detect/capture.js";
import { detect, detectSnapshot } from "../../src/detect/detect.js";
import type { Facts } from "../../src/detect/facts.js";
import { keptText } from "../../src/detect/kept-facts.js";
import { snapshotFacts } from "../../src/detect/snapshot.js";
import { captureSnapshot, openPvbus } from "../../src/index.js";
import { ROOT } from "../support/pools.js";

const { cases } = JSON.parse(readFileSync(join(ROOT, "test/fixtures/detection/cases.json"), "utf8"));

describe("snapshot", () => {
  let sysroot: string;
  const put = (path: string, content: string): void => {
    mkdirSync(join(sysroot, path, ".."), { recursive: true });
    writeFileSync(join(sysroot, path), content);
  };
  beforeEach(() => {
    sysroot = mkdtempSync(join(tmpdir(), "pvbus-capture-"));
  });
  afterEach(() => rmSync(sysroot, { recursive: true, force: true }));

  it("of this machine replays to the very same report", async () => {
    const document = JSON.parse(JSON.stringify(await captureSnapshot()));
    const { unreadable: _live, ...live } = await detect(nodeHost());
    const { unreadable: _replayed, ...replayed } = detectSnapshot(document);
    expect(replayed).to.deep.equal(live);
    const bus = await openPvbus({ snapshot: document });
    expect(bus.detection.primary).to.equal(live.primary);
    await bus.close();
  });

  it("of every recorded machine replays to the same report, even twice over", async () => {
    for (const each of cases) {
      writeFileSync(join(sysroot, "snapshot.json"), JSON.stringify(each));
      const document = JSON.parse(JSON.stringify(await captureSnapshot({ sysroot })));
      const { unreadable: _first, ...expected } = detectSnapshot(each);
      const { unreadable: _second, ...replayed } = detectSnapshot(document);
      expect(replayed, each.id).to.deep.equal(expected);
    }
  });

  it("redacts identifiers unless asked for, but for what names a platform", async () => {
    put("/sys/class/dmi/id/product_serial", "GoogleCloud-0123456789\n");
    put("/sys/class/dmi/id/product_uuid", "11111111-2222-3333-4444-555555555555\n");
    put("/sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n");
    put("/sys/hypervisor/uuid", "ec2f1a4b-0000-0000-0000-000000000001\n");
    put("/proc/1/environ", "SECRET=hunter2\0container=lxc\0TOKEN=x\0");
    put("/proc/1/cgroup", `12:pids:/docker/${"ab".repeat(32)}\n`);
    const text = JSON.stringify(await captureSnapshot({ sysroot }));
    for (const secret of ["0123456789", "11111111", "f1a4b", "hunter2", "TOKEN", "abababab"])
      expect(text).not.to.include(secret);
    const { platform, container } = detectSnapshot(JSON.parse(text));
    expect([platform, container]).to.deep.equal(["azure", "lxc"]);
    const whole = JSON.stringify(await captureSnapshot({ sysroot, includeIdentifiers: true }));
    for (const kept of ["GoogleCloud-0123456789", "11111111-2222", "hunter2"]) expect(whole).to.include(kept);
  });
});

/** Texts of the firmware that snapshots keep as they are: they name makers, models and versions. */
const MODEL =
  /^(sys_vendor|product_name|product_version|product_family|board_vendor|board_name|bios_vendor|bios_version|chassis_vendor|smbios\.(system\.(maker|product|version)|bios\.(vendor|version)|planar\.maker)|hw\.(vendor|product)|machdep\.dmi\.system-(vendor|product)|System(Manufacturer|ProductName|Version)|BIOS(Vendor|Version)|BaseBoardManufacturer)$/;

describe("what a snapshot keeps", () => {
  const SECRET = "5ECRET-7f3a";

  /** Facts that answer whatever is asked, each with a secret, behind what rules look for. */
  function planted(front: string, asked: Set<string>, firmware: "dmi" | "kenv" | "registry"): Facts {
    const only = (source: string, ask: (name: string) => Fact<string>) => (name: string) =>
      source === firmware ? ask(name) : ({ kind: "absent" } as const);
    const answer = (name: string): Fact<string> => {
      asked.add(name);
      return { kind: "value", value: MODEL.test(name) ? "QEMU" : `${front}${SECRET}` };
    };
    return {
      os: `os-${SECRET}`,
      arch: `arch-${SECRET}`,
      cpuid: () => ({ kind: "unreadable", why: SECRET }),
      dmi: only("dmi", answer),
      file: answer,
      names: () => [
        `VMGENCTR:${SECRET}`,
        `VMBUS:${SECRET}`,
        `fw-cfg@${SECRET}`,
        SECRET,
        "VMBUS:00",
        "PNP0C0A:00",
      ],
      fadtHypervisorId: () => answer("fadt"),
      smbiosVmBit: () => ({ kind: "value", value: true }),
      sysctl: answer,
      kenv: only("kenv", answer),
      registry: (key, name) => (key.endsWith("BIOS") ? only("registry", answer)(name) : answer(name)),
      pvbusTypes: () =>
        new Map([
          [`/dev/pvbus-${SECRET}`, "KVM"],
          ["/dev/pvbus0", `KVM ${SECRET}`],
          ["/dev/pvbus1", "Xen"],
        ]),
      msr: () => ({ kind: "value", value: 0xdead_beef_cafe_f00dn }),
    };
  }

  const FRONTS = [
    "",
    "ec2",
    "EC2",
    "GoogleCloud-",
    "OpenStack ",
    "OracleCloud.com",
    "7783-7084-3265-9085-8269-3286-77",
    "container=",
    "A=1\0container=lxc\0B=",
    "container=lxc-",
    "0::/docker/",
    "12:pids:/machine.slice/libpod-",
    "5.15.153.1-microsoft-standard-WSL2-",
    "6.1.0-",
    "flags\t\t: fpu hypervisor\nSerial\t\t: ",
    "flags\t\t: hypervisor ",
    "xen",
    "xen,xen-4.17",
    "linux,kvm\0",
    "linux,dummy-virt\0",
    "vmware,",
    "control_d ",
    "HVM",
    "1",
    "0000",
    "kvm-clock tsc ",
    "kvm-clock",
    "pvbus0 at mainbus0: KVM, ",
    "pvbus0 at mainbus0: Hyper-V 0.0, Xen 4.17\nsd0: <ATA, ",
    "sd0 at scsibus0 serial ",
    "0008\t1af41041\t",
    "0008\t1af41041\t0\n0010\t10ec8168\t",
    "model name\t: QEMU Virtual CPU ",
    "12:pids:/lxc/",
    "0::/lxc.payload.",
    "microsoft,hyperv\0",
    "VMBUS",
    "VMGENCTR",
    "KVMKVMKVM",
    "hv",
    "VMware",
    "VMware7,1",
    "Xen PV",
    "KVM",
    "FIRECKVM",
    "QEMU",
    "none",
  ];

  it("holds none of the secrets in any field that is not a maker's, model's or version's", () => {
    const asked = new Set<string>();
    for (const front of FRONTS)
      for (const firmware of ["dmi", "kenv", "registry"] as const) {
        const text = JSON.stringify(recordFacts(planted(front, asked, firmware)));
        expect(text, JSON.stringify(front)).not.to.include(SECRET);
        expect(text, JSON.stringify(front)).not.to.match(/dead|beef|cafe/i);
        const all = recordFacts(planted(front, new Set(), firmware), { includeIdentifiers: true });
        expect(JSON.stringify(all).split(SECRET).length).to.be.greaterThan(20);
      }
    // All kinds of sources were asked, and what is kept as it is was among them.
    for (const name of [
      "/proc/cpuinfo",
      "/var/run/dmesg.boot",
      "HostName",
      "product_serial",
      "smbios.chassis.tag",
    ])
      expect([...asked]).to.include(name);
    expect([...asked].filter((name) => MODEL.test(name)).length).to.be.greaterThan(8);
  });

  it("holds of whole files what the decision needs, nothing else", () => {
    const files = {
      "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor lm\nSerial\t\t: 00000000abcdef01\n",
      "/var/run/dmesg.boot":
        "OpenBSD 7.6\nsd0: <QEMU, HARDDISK, 2.5+> serial.ABC123\npvbus0 at mainbus0: KVM\nem0: address 52:54:00:12:34:56\n",
      "/proc/1/environ": "PASSWORD=x\0container=podman\0",
      "/proc/1/cgroup": "0::/docker/0123456789ab\n",
      "/run/.containerenv": 'name="secret"\nid="0123"\n',
      "/proc/sys/kernel/osrelease": "6.1.0-acme-web-01\n",
      "/proc/bus/pci/devices": "0008\t1af41041\t0\tfebd1000\n0010\t10ec8168\t0\tfebd2000\n",
    };
    const registry = {
      "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters": {
        HostName: "HV-HOST-01",
        VirtualMachineName: "payroll",
      },
    };
    const machine = { os: "openbsd", arch: "x64", cpuid: null, files, registry };
    const document = JSON.parse(JSON.stringify(recordFacts(snapshotFacts(machine))));
    expect(document.files["/proc/cpuinfo"]).to.equal("flags\t\t: hypervisor");
    expect(document.files["/var/run/dmesg.boot"]).to.equal("pvbus0 at mainbus0: KVM");
    expect(document.files["/proc/1/environ"]).to.equal("container=podman");
    expect(document.files["/proc/sys/kernel/osrelease"]).to.equal("6.1.0");
    expect(document.files["/proc/bus/pci/devices"]).to.equal("0000\t1af41041\t0");
    expect(JSON.stringify(document)).not.to.match(
      /abcdef01|ABC123|52:54|PASSWORD|0123|acme|HV-HOST|payroll|secret/,
    );
    expect(detectSnapshot(document)).to.deep.equal(detectSnapshot(machine));
  });

  it("gives the same decision for every recorded machine, with all CPUID bases too", () => {
    for (const each of cases)
      for (const options of [{}, { fullScan: true }]) {
        const document = JSON.parse(JSON.stringify(recordFacts(snapshotFacts(each))));
        const { unreadable: _first, ...expected } = detectSnapshot(each);
        const { unreadable: _second, ...replayed } = detectSnapshot(document, options);
        if (options.fullScan !== true) expect(replayed, each.id).to.deep.equal(expected);
        else expect(replayed.primary, each.id).to.equal(expected.primary);
      }
  });

  it("is replaced where nobody named the fact", () => {
    for (const source of ["dmi", "files", "sysctl", "kenv", "acpi", "registry"] as const)
      for (const name of ["something_new", "__proto__", "constructor"])
        expect(keptText(source, name, "text")).to.equal("redacted");
  });
});

describe("detection without CPUID", () => {
  const report = (files: Record<string, string>, dmi: Record<string, string> | null) =>
    detectSnapshot({ os: "linux", arch: "x64", cpuid: null, dmi, files });

  it("takes the kernel's flag for the hypervisor bit: clear, it outweighs a machine model's text", () => {
    const qemu = { sys_vendor: "QEMU" };
    expect(report({}, qemu).primary).to.equal("qemu");
    expect(
      report({ "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor lm\n" }, qemu).primary,
    ).to.equal("qemu");
    expect(report({ "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lm\n" }, qemu).primary).to.equal(null);
    expect(report({ "/proc/cpuinfo": "flags : fpu hypervisor\n" }, null).primary).to.equal("unknown");
  });

  it("finds a hypervisor behind an unprintable first range", () => {
    const registers = (ebx: number, ecx: number, edx: number) =>
      Object.fromEntries(
        Object.entries({ eax: 0x40000101, ebx, ecx, edx }).map(([k, v]) => [k, `0x${v.toString(16)}`]),
      );
    const leaves = {
      "0x00000001": registers(0, 0x80000000, 0),
      "0x40000000": registers(1, 2, 3),
      "0x40000100": registers(0x4b4d564b, 0x564b4d56, 0x4d),
    };
    const { primary, interfaces } = detectSnapshot({
      os: "linux",
      arch: "x64",
      cpuid: { leaves },
      dmi: null,
      files: {},
    });
    expect([primary, interfaces[0]?.base]).to.deep.equal(["kvm", "0x40000100"]);
  });

  it("takes a clock of the kernel where nothing else speaks, and a generation counter for some hypervisor", () => {
    const clock = { "/sys/devices/system/clocksource/clocksource0/available_clocksource": "kvm-clock tsc\n" };
    expect(report(clock, null).primary).to.equal("kvm");
    expect(report({ ...clock, "/proc/cpuinfo": "flags : fpu\n" }, null).primary).to.equal(null);
    expect(report({ "/sys/bus/acpi/devices/VMGENCTR:00/hid": "VMGENCTR\n" }, null).primary).to.equal(
      "unknown",
    );
  });

  it("knows the containers of cgroups that systemd names", () => {
    const of = (cgroup: string) => report({ "/proc/1/cgroup": cgroup }, null).container;
    expect(of("0::/system.slice/docker-0123abcd.scope\n")).to.equal("docker");
    expect(of("0::/machine.slice/libpod-0123abcd.scope\n")).to.equal("podman");
    expect(of("0::/\n")).to.equal(null);
  });

  it("sees that a PV domain is nested when the processor names another hypervisor", () => {
    const pv = structuredClone(cases.find(({ id }: { id: string }) => id === "xen-pv"));
    expect(detectSnapshot(pv).nested).to.equal(false);
    const kvm = cases.find(({ id }: { id: string }) => id === "kvm-q35");
    pv.input.cpuid = kvm.input.cpuid;
    const { nested, primary } = detectSnapshot(pv);
    expect([nested, primary]).to.deep.equal([true, "xen"]);
  });

  it("looks behind an unprintable range only when asked to scan all", () => {
    const registers = (ecx: number, [ebx, b, c]: readonly number[] = [0, 0, 0]) =>
      Object.fromEntries(
        Object.entries({ eax: 0, ebx, ecx: b || ecx, edx: c }).map(([k, v]) => [k, `0x${v?.toString(16)}`]),
      );
    const leaves = {
      "0x00000001": registers(0x80000000),
      "0x40000000": registers(0, [0x4b4d564b, 0x564b4d56, 0x4d]),
      "0x4000ff00": registers(0, [0x566e6558, 0x65584d4d, 0x4d4d566e]),
    };
    const machine = { os: "linux", arch: "x64", cpuid: { leaves }, dmi: null, files: {} };
    const found = (fullScan: boolean) => detectSnapshot(machine, { fullScan }).interfaces.map(({ id }) => id);
    expect([found(false), found(true)]).to.deep.equal([["kvm"], ["kvm", "xen"]]);
  });

  it("names features, versions and privileges", () => {
    const of = (id: string, kind: string) =>
      detectSnapshot(cases.find((each: { id: string }) => each.id === id)).interfaces.find(
        (each) => each.id === kind,
      )?.details;
    expect(of("kvm-q35", "kvm")?.["features"]).to.include("clocksource");
    expect(of("hyperv-gen2", "hyperv")).to.have.property("privileges").that.includes("post-messages");
    expect(of("hyperv-root-linux", "hyperv")?.["privileges"]).to.include("cpu-management");
    expect(of("hyperv-cvm-snp", "hyperv")?.["isolation"]).to.equal("sev-snp");
    expect(of("xen-hvm", "xen")?.["version"]).to.match(/^4\.\d+$/);
  });
});

describe("detection where the processor names nobody", () => {
  const bit = { "0x00000001": { eax: "0x0", ebx: "0x0", ecx: "0x80000000", edx: "0x0" } };
  const machine = (cpuid: unknown, dmi: unknown, files: unknown) =>
    detectSnapshot({ os: "linux", arch: "x64", cpuid, dmi, files });
  const dom0 = { "/sys/hypervisor/type": "xen\n", "/proc/xen/capabilities": "control_d\n" };

  it("takes a machine model's text beside a Hyper-V interface of a foreign vendor", () => {
    const custom = structuredClone(cases.find(({ id }: { id: string }) => id === "kvm-hidden-custom-hv"));
    custom.input.dmi = { sys_vendor: "QEMU" };
    const { primary, interfaces } = detectSnapshot(custom);
    expect([primary, interfaces.map(({ id }) => id)]).to.deep.equal(["qemu", ["hyperv", "qemu"]]);
  });

  it("takes an unexplained bit in dom0 for Xen's own, and sees a model below dom0 by its text", () => {
    const unnamed = machine({ leaves: bit }, null, dom0);
    expect([unnamed.primary, unnamed.nested]).to.deep.equal([null, false]);
    const cloud = machine({ leaves: bit }, { product_name: "Google Compute Engine" }, dom0);
    expect([cloud.primary, cloud.nested]).to.deep.equal([null, false]);
    const standard = machine({ leaves: bit }, { product_name: "Standard PC (Q35 + ICH9, 2009)" }, dom0);
    expect([standard.primary, standard.nested]).to.deep.equal(["qemu", true]);
    const model = machine(null, { sys_vendor: "QEMU" }, dom0);
    expect([model.primary, model.nested]).to.deep.equal(["qemu", true]);
    const bare = machine(null, { sys_vendor: "Dell Inc." }, dom0);
    expect([bare.primary, bare.nested, bare.virtual]).to.deep.equal([null, false, false]);
  });

  it("knows OpenBSD's machine by its text", () => {
    expect(machine(null, { sys_vendor: "OpenBSD", product_name: "VMM" }, {}).primary).to.equal("openbsd");
  });
});

describe("detection by a second reading of the rules", () => {
  const of = (input: object) =>
    detectSnapshot({ os: "linux", arch: "x64", cpuid: null, dmi: null, files: {}, ...input });
  const dom0 = { "/sys/hypervisor/type": "xen\n", "/proc/xen/capabilities": "control_d\n" };

  it("takes the kernel's flag in dom0 for Xen's own", () => {
    const { primary, nested } = of({ files: { ...dom0, "/proc/cpuinfo": "flags : fpu hypervisor\n" } });
    expect([primary, nested]).to.deep.equal([null, false]);
  });

  it("knows KVM by the vendor text of its Hyper-V interface alone", () => {
    const machine = structuredClone(cases.find(({ id }: { id: string }) => id === "kvm-hv-vendor-linux"));
    delete machine.input.cpuid.leaves["0x40000100"];
    const { primary, interfaces } = detectSnapshot(machine);
    expect([primary, interfaces.map(({ id }) => id)]).to.deep.equal(["kvm", ["kvm", "hyperv"]]);
  });

  it("keeps the space at the end of a signature, and takes no other word for Xen", () => {
    expect(
      detectSnapshot({ os: "freebsd", arch: "x64", cpuid: null, sysctl: { "hw.hv_vendor": "bhyve bhyve " } })
        .primary,
    ).to.equal("bhyve");
    expect(of({ dmi: { sys_vendor: "Xenon Systems" } }).primary).to.equal(null);
  });

  it("reads nothing through a link that leaves the sysroot, neither for detection nor for a snapshot", async () => {
    const outside = mkdtempSync(join(tmpdir(), "pvbus-outside-"));
    const sysroot = mkdtempSync(join(tmpdir(), "pvbus-inside-"));
    writeFileSync(join(outside, "sys_vendor"), "VMware, Inc. SECRET\n");
    mkdirSync(join(sysroot, "sys/class/dmi"), { recursive: true });
    mkdirSync(join(sysroot, "sys/bus/acpi"), { recursive: true });
    symlinkSync(outside, join(sysroot, "sys/class/dmi/id"));
    symlinkSync(outside, join(sysroot, "sys/bus/acpi/devices"));
    const report = await detect(nodeHost({ sysroot }));
    expect(report.primary).to.equal(null);
    expect(report.unreadable.map(({ source }) => source)).to.deep.equal(["cpuid"]);
    expect(JSON.stringify(await captureSnapshot({ sysroot }))).not.to.match(/SECRET|devices\/sys_vendor/);
    for (const each of [outside, sysroot]) rmSync(each, { recursive: true });
  });
});
