import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { expect } from "chai";
import fc from "fast-check";
import { nodeHost } from "../../src/base/host/node-host.js";
import type { DetectedInterface } from "../../src/contract/report.js";
import { decide } from "../../src/detect/decide.js";
import { detect, detectSnapshot } from "../../src/detect/detect.js";
import type { Facts } from "../../src/detect/facts.js";
import { snapshotFacts } from "../../src/detect/snapshot.js";
import { openPvbus, PvbusError } from "../../src/index.js";
import { pending } from "../support/pending.js";
import { ROOT } from "../support/pools.js";
import { rejects } from "../support/rejects.js";

interface Case {
  readonly id: string;
  readonly title: string;
  readonly os: string;
  readonly expect: Record<string, unknown> & { interfaces: (DetectedInterface & { evidence: string[] })[] };
}

const { cases } = JSON.parse(readFileSync(join(ROOT, "test/fixtures/detection/cases.json"), "utf8")) as {
  cases: Case[];
};

describe("detection", () => {
  describe(`of the ${cases.length} recorded machines`, () => {
    for (const each of cases) {
      it(`${each.id}: ${each.title}`, () => {
        const report = detectSnapshot(each);
        const { expect: expected } = each;
        for (const field of ["virtual", "primary", "platform", "container", "confidential"] as const) {
          expect(report[field], field).to.equal(expected[field] ?? null);
        }
        if (expected["nested"] !== undefined) expect(report.nested).to.equal(expected["nested"]);
        const shape = ({ unit, id, role, base, emulated }: DetectedInterface): unknown => ({
          unit,
          id,
          role,
          base,
          emulated,
        });
        expect(report.interfaces.map(shape)).to.deep.equal(expected.interfaces.map(shape));
        for (const [index, { evidence }] of expected.interfaces.entries()) {
          expect(report.interfaces[index]?.evidence.map(({ source }) => source)).to.include.members(evidence);
        }
        const primary = report.interfaces.find(({ id }) => id === report.primary);
        expect(report.primaryName).to.equal(primary?.name ?? null);
      });
    }
  });

  it("executes CPUID a handful of times on a plain machine", () => {
    const plain = snapshotFacts(cases.find(({ id }) => id === "kvm-q35"));
    const leaves: number[] = [];
    const counting: Facts = Object.create(plain, {
      cpuid: {
        value: (leaf: number) => {
          leaves.push(leaf);
          return plain.cpuid(leaf);
        },
      },
    });
    decide(counting);
    expect(leaves.length).to.be.at.most(10);
  });

  it("asks for the other axes, the words of evidence and decoded facts when somebody reads them", () => {
    const azure = snapshotFacts(cases.find(({ id }) => id === "azure"));
    const asked = new Set<string>();
    const note = (name: string): string => {
      asked.add(name);
      return name;
    };
    const noting: Facts = Object.create(azure, {
      file: { value: (path: string) => azure.file(note(path)) },
      dmi: { value: (field: string) => azure.dmi(note(field)) },
      cpuid: { value: (leaf: number) => azure.cpuid(Number(note(`0x${leaf.toString(16)}`))) },
    });
    const report = decide(noting);
    expect(report.primary).to.equal("hyperv");
    const LATER = ["/proc/1/cgroup", "chassis_asset_tag", "0x8000001f", "0x40000005"];
    expect(LATER.filter((each) => asked.has(each))).to.deep.equal([]);
    expect([report.platform, report.container, report.confidential]).to.deep.equal(["azure", null, null]);
    expect(report.interfaces[0]?.details).to.have.property("maxVirtualProcessors");
    expect(LATER.filter((each) => !asked.has(each))).to.deep.equal([]);
  });

  it("gives a report that copies, prints and compares as a plain object", () => {
    const azure = cases.find(({ id }) => id === "azure");
    const report = detectSnapshot(azure);
    const parts = "virtual primary primaryName interfaces platform container confidential nested unreadable";
    expect(Object.keys(report).join(" ")).to.equal(parts);
    expect(Object.keys(report.interfaces[0] ?? {}).join(" ")).to.equal(
      "unit name id type role base emulated evidence details",
    );
    expect(inspect(report)).to.match(/platform: 'azure'/);
    expect(inspect(report, { depth: 5 })).not.to.match(/Getter|Symbol/);
    expect(structuredClone(report)).to.deep.equal(report);
    expect({ ...report }).to.deep.equal(report);
    expect(Object.freeze(report).platform).to.equal("azure");
    expect(report.interfaces[0]?.evidence).to.equal(report.interfaces[0]?.evidence);
  });

  it("of this machine agrees with systemd-detect-virt where it is installed", async function () {
    const { stdout, error } = spawnSync("systemd-detect-virt", ["--vm"], { encoding: "utf8" });
    if (error !== undefined) {
      return pending(this, "systemd-detect-virt is not installed (Debian: systemd)");
    }
    const names: Record<string, string> = {
      microsoft: "hyperv",
      oracle: "virtualbox",
      amazon: "kvm",
      google: "kvm",
    };
    const theirs = stdout.trim();
    const { primary } = await detect(nodeHost());
    if (theirs === "none") expect(primary).to.equal(null);
    else if (theirs !== "vm-other") expect(primary).to.equal(names[theirs] ?? theirs);
  });

  it("of this machine agrees with lscpu and virt-what where they are installed", async function () {
    const { primary } = await detect(nodeHost());
    const words: Record<string, readonly string[]> = {
      kvm: ["kvm", "KVM"],
      hyperv: ["hyperv", "Microsoft"],
      vmware: ["vmware", "VMware"],
      xen: ["xen", "Xen"],
      qemu: ["qemu", "KVM"],
    };
    let asked = 0;
    const lscpu = spawnSync("lscpu", { encoding: "utf8", env: { ...process.env, LC_ALL: "C" } });
    const vendor = /^Hypervisor vendor:\s*(.*)$/m.exec(lscpu.stdout ?? "")?.[1];
    if (lscpu.error === undefined) {
      asked++;
      if (primary === null) expect(vendor).to.equal(undefined);
      else if (primary in words) expect(words[primary]).to.include(vendor);
    } else console.log("      lscpu is not installed (Debian: util-linux)");
    const virtWhat = spawnSync("virt-what", { encoding: "utf8" });
    if (virtWhat.error === undefined && virtWhat.status === 0) {
      asked++;
      const lines = virtWhat.stdout.trim().split("\n");
      if (primary !== null && primary in words) expect(lines).to.include(words[primary]?.[0]);
    } else console.log("      virt-what is not installed, or this is not root (Debian: virt-what)");
    if (asked === 0) pending(this, "neither lscpu nor virt-what (Debian: util-linux, virt-what; root)");
  });

  it("of this machine asks the processor itself, and says so where it cannot", async function () {
    const report = await detect(nodeHost());
    if (process.arch !== "x64") expect(report.unreadable.map(({ source }) => source)).to.include("cpuid");
    else if (process.platform !== "linux") pending(this, "another way than /proc/cpuinfo to ask here");
    else {
      const flagged = /^flags\s*:.*\bhypervisor\b/m.test(readFileSync("/proc/cpuinfo", "latin1"));
      expect(report.virtual).to.equal(flagged);
      if (flagged)
        expect(report.interfaces.flatMap(({ evidence }) => evidence.map(({ source }) => source))).to.include(
          "cpuid",
        );
    }
  });

  describe("below a sysroot", () => {
    let sysroot: string;
    const put = (path: string, content: string | Buffer): void => {
      mkdirSync(join(sysroot, path, ".."), { recursive: true });
      writeFileSync(join(sysroot, path), content);
    };
    beforeEach(() => {
      sysroot = mkdtempSync(join(tmpdir(), "pvbus-detect-"));
    });
    afterEach(() => rmSync(sysroot, { recursive: true, force: true }));

    it("decides from the files there and never asks the processor", async () => {
      put("/sys/class/dmi/id/sys_vendor", "Microsoft Corporation\n");
      put("/sys/class/dmi/id/product_name", "Virtual Machine\n");
      put("/sys/bus/acpi/devices/VMBUS:00/hid", "VMBUS\n");
      const report = await detect(nodeHost({ sysroot }));
      expect(report.primary).to.equal("hyperv");
      expect(report.interfaces[0]?.evidence.map(({ source }) => source)).to.deep.equal(["dmi", "acpi"]);
      expect(report.unreadable.map(({ source }) => source)).to.deep.equal(["cpuid"]);
    });

    it("reads each table once, no device's id, and nothing of the other axes for the bus alone", async () => {
      const table = Buffer.alloc(276);
      table.write("MsHyperV", 268, "latin1");
      put("/sys/firmware/acpi/tables/FACP", table);
      for (const name of ["VMBUS:00", "PNP0A08:00", "device:00"])
        put(`/sys/bus/acpi/devices/${name}/hid`, `${name.split(":")[0]}\n`);
      put("/proc/1/cgroup", "0::/docker/abc\n");
      const host = nodeHost({ sysroot });
      const held: string[] = [];
      const hold: typeof host.files.hold = (path) => {
        held.push(path);
        return host.files.hold(path);
      };
      const bus = await openPvbus({ host: { ...host, files: { ...host.files, hold } } });
      expect(bus.detection.primary).to.equal("hyperv");
      expect(held.filter((path) => path.endsWith("/hid"))).to.deep.equal([]);
      expect(held).not.to.include("/proc/1/cgroup");
      expect(JSON.parse(JSON.stringify(bus.detection))).to.include({ container: "docker" });
      expect(held.filter((path) => path.endsWith("/FACP"))).to.have.length(1);
      expect(held.length).to.equal(new Set(held).size);
      await bus.close();
    });

    it("finds nothing in an empty tree, and the bus is empty", async () => {
      const bus = await openPvbus({ sysroot });
      expect([bus.detection.virtual, bus.interfaces, bus.primary]).to.deep.equal([false, [], undefined]);
      await bus.close();
    });

    it("survives garbage, directories, FIFOs, loops and large files in the places it looks at", async () => {
      put("/sys/class/dmi/id/sys_vendor", Buffer.from([0xff, 0xfe, 0x1b, 0x5b, 0x32, 0x4a]));
      put(
        "/sys/class/dmi/id/product_name",
        Buffer.concat([Buffer.from("VMware\x1b[2J"), Buffer.alloc(2_000_000, 0x41)]),
      );
      mkdirSync(join(sysroot, "sys/class/dmi/id/bios_vendor"));
      execFileSync("mkfifo", [join(sysroot, "sys/class/dmi/id/board_vendor")]);
      symlinkSync("loop", join(sysroot, "sys/class/dmi/id/loop"));
      symlinkSync("loop", join(sysroot, "sys/class/dmi/id/product_version"));
      put("/proc/device-tree/hypervisor/compatible", Buffer.alloc(1_500_000, 0x42));
      const report = await detect(nodeHost({ sysroot }));
      expect(report.virtual).to.equal(true);
      for (const { evidence } of report.interfaces) {
        for (const { detail } of evidence) expect(detail).to.match(/^[\x20-\x7e]*$/);
      }
    });

    it("says of a malformed snapshot.json what is wrong", async () => {
      for (const text of ["{", "[]", '{"os":1}', '{"os":"linux","arch":"x64","cpuid":{"leaves":{"x":{}}}}']) {
        put("/snapshot.json", text);
        await rejects(detect(nodeHost({ sysroot })), "ERR_CORRUPT");
      }
    });
  });

  it("of any document gives a report or says that it is malformed", () => {
    const document = fc.record(
      {
        os: fc.constantFrom("linux", "x"),
        arch: fc.constantFrom("x64", "arm64"),
        cpuid: fc.oneof(
          fc.constant(null),
          fc.object(),
          fc.record({ leaves: fc.object(), missing: fc.object() }),
        ),
        dmi: fc.oneof(
          fc.constant(null),
          fc.object({ key: fc.constantFrom("sys_vendor", "product_name", "__proto__") }),
        ),
        files: fc.object({ key: fc.constantFrom("/proc/xen", "/sys/hypervisor/type", "/proc/1/cgroup") }),
        acpi: fc.anything(),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(document, fc.anything()), (snapshot) => {
        try {
          detectSnapshot(snapshot);
        } catch (error) {
          expect(PvbusError.is(error), String(error)).to.equal(true);
        }
      }),
      { numRuns: 500 },
    );
  });
});
