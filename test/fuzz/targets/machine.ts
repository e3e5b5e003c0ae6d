import type { CpuidRegisters } from "../../../src/base/firmware/cpuid.js";
import { ABSENT, type Fact, unreadable, value } from "../../../src/base/firmware/fact.js";
import type { DetectionReport } from "../../../src/contract/report.js";
import { cpuidDetails, scanCpuid } from "../../../src/detect/cpuid.js";
import { decide } from "../../../src/detect/decide.js";
import type { Facts } from "../../../src/detect/facts.js";
import { snapshotFacts } from "../../../src/detect/snapshot.js";
import { proveVmware } from "../../../src/native/vmware/proof.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

/** Evidence goes to terminals and logs as it is. */
function check(report: DetectionReport): void {
  for (const { evidence, name, unit, id, type } of report.interfaces) {
    holds(typeof id === "string" && typeof type === "string", "an interface whose id is no text");
    same(name, `pvbus${unit}`, "the name of an interface");
    for (const { detail } of evidence)
      holds(/^[\x20-\x7e]*$/.test(detail), "evidence that steers a terminal");
  }
  JSON.stringify(report);
}

function snapshot(input: Input): void {
  let document: unknown;
  try {
    document = JSON.parse(input.text());
  } catch {
    // What is no JSON is refused before.
    return;
  }
  const facts = snapshotFacts(document);
  const report = decide(facts);
  check(report);
  same(decide(facts), report, "the same facts decided twice");
}

const SIGNATURES = [
  "KVMKVMKVM\0\0\0",
  "Microsoft Hv",
  "VMwareVMware",
  "XenVMMXenVMM",
  "bhyve bhyve ",
  "OpenBSDVMM58",
  "TCGTCGTCGTCG",
];

function registersFrom(input: Input): CpuidRegisters {
  if (input.flag()) {
    const text = Buffer.from(input.pick(SIGNATURES), "latin1");
    const [ebx, ecx, edx] = [0, 4, 8].map((at) => text.readUInt32LE(at)) as [number, number, number];
    return { eax: 0x4000_0000 + input.byte(), ebx, ecx, edx };
  }
  return { eax: input.word(), ebx: input.word(), ecx: input.word(), edx: input.word() };
}

/** A processor: each leaf answers the same whenever it is asked. */
function cpuidFrom(input: Input): (leaf: number) => CpuidRegisters {
  const leaves = Array.from({ length: input.below(8) }, () => registersFrom(input));
  const features = { eax: 0, ebx: 0, ecx: input.flag() ? 0x8000_0000 : 0, edx: 0 };
  const zeros = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  return (leaf) => {
    if (leaf === 1) return features;
    const at = leaf >= 0x4000_0100 ? 4 + (leaf & 3) : leaf & 7;
    return leaves[at] ?? zeros;
  };
}

const TEXTS = [
  "xen",
  "QEMU",
  "VMware, Inc.",
  "Microsoft Corporation",
  "Virtual Machine",
  "linux,dummy-virt",
  "vmbus",
  "MsHyperV",
  "kvm-clock tsc",
  "constructor",
  "__proto__",
  "pvbus0 at mainbus0: KVM, Hyper-V 10.0",
  "flags : hypervisor",
  "container=lxc\0",
  "0008\t80eebeef\t0\n0010\t1b360001\t0\n",
  "0008\t15ad0740\t0",
  "model name : QEMU Virtual CPU version 0.9.1\nflags : fpu",
  "microsoft,hyperv\0",
  "0::/lxc.payload.a",
  "Standard PC (Q35",
  "Hetzner",
  "Bochs",
];

/** A machine all of whose facts are the input's: ACPI, DMI, device tree, files, sysctl, registry. */
function factsFrom(input: Input): Facts {
  const read = cpuidFrom(input);
  const texts: Fact<string>[] = [];
  for (let count = input.below(12); count > 0; count--) {
    const kind = input.below(8);
    if (kind === 0) texts.push(ABSENT);
    else if (kind === 1) texts.push(unreadable(input.field().toString("utf8")));
    else if (kind < 5) texts.push(value(input.pick(TEXTS)));
    else texts.push(value(input.field().toString("utf8")));
  }
  const names = Array.from(
    { length: input.below(4) },
    () =>
      input.pick(["VMBUS:00", "VMGENCTR:00", "QEMU0002:00", "fw-cfg@9020000", "virtio0", "hypervisor"]) +
      input.field().toString("latin1"),
  );
  const salt = input.byte();
  // The same question has the same answer.
  const text = (question: string): Fact<string> => {
    let sum = salt;
    for (let at = 0; at < question.length; at++) sum = (sum * 31 + question.charCodeAt(at)) >>> 0;
    return sum % 3 === 0 ? ABSENT : (texts[sum % Math.max(texts.length, 1)] ?? ABSENT);
  };
  return {
    os: input.pick(["linux", "freebsd", "openbsd", "netbsd", "windows", "darwin"]),
    arch: input.pick(["x64", "arm64"]),
    cpuid: (leaf) => value(read(leaf)),
    dmi: text,
    file: text,
    names: () => names,
    fadtHypervisorId: () => text("fadt"),
    smbiosVmBit: () => value(salt > 128),
    sysctl: text,
    kenv: text,
    registry: (key, name) => text(key + name),
    pvbusTypes: () => new Map(names.map((name, at) => [`/dev/pvbus${at}`, name])),
    msr: () => value(BigInt(salt)),
  };
}

function facts(input: Input): void {
  const fullScan = input.flag();
  const machine = factsFrom(input);
  const report = decide(machine, { fullScan });
  check(report);
  same(decide(machine, { fullScan }), report, "the same facts decided twice");
}

function cpuid(input: Input): void {
  const read = cpuidFrom(input);
  const systemVendor = input.flag() ? input.rest().toString("utf8") : undefined;
  const machine = { cpuid: (leaf: number) => value(read(leaf)), file: () => ABSENT } as unknown as Facts;
  for (const fullScan of [false, true]) {
    const { ranges } = scanCpuid(machine, { fullScan });
    holds(ranges.length <= 256, "more ranges than bases");
    for (const { signature } of ranges) holds(signature.length <= 12, "a signature of another length");
  }
  for (const id of ["kvm", "hyperv", "xen", "vmware", "acrn"]) JSON.stringify(cpuidDetails(id, read));
  proveVmware({
    arch: "x64",
    cpuid: { read } as unknown as Parameters<typeof proveVmware>[0]["cpuid"],
    systemVendor,
  });
}

const SNAPSHOT =
  '{"os":"linux","arch":"x64","cpuid":{"leaves":{"0x00000001":{"eax":"0x0","ebx":"0x0","ecx":"0x80000000","edx":"0x0"},"0x40000000":{"eax":"0x40000001","ebx":"0x4b4d564b","ecx":"0x564b4d56","edx":"0x4d"}}},"dmi":{"sys_vendor":"QEMU"},"files":{"/sys/hypervisor/type":"xen\\n","/proc/device-tree/fw-cfg@1":null},"acpi":{"fadtHypervisorId":"MsHyperV"},"sysctl":{"kern.vm_guest":"constructor"},"registry":{"a":{"b":"c"}},"msr":{"0xc0010131":"0x1"}}';

/** What detection meets: recorded machines, firmware, files and the processor. */
export const MACHINE: readonly Target[] = [
  {
    name: "detect-snapshot",
    run: snapshot,
    seeds: () => [
      SNAPSHOT,
      '{"input":{"cpuid":null},"os":"linux","arch":"x64"}',
      '{"os":"freebsd","arch":"x64","sysctl":{"kern.vm_guest":"hv"}}',
    ],
  },
  {
    name: "detect-facts",
    run: facts,
    seeds: () => ["\0\x04\x01\x01\0\x01\0\0\x01\x05\x02\x03\x03\0\x07\x02hi\x02\0\0\x07"],
  },
  { name: "detect-cpuid", run: cpuid, seeds: () => ["\x03\x01\x02\0\x01\0\0\x01\x01VMware, Inc."] },
];
