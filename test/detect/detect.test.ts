import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
