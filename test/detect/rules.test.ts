import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import type { DetectionReport } from "../../src/contract/report.js";
import { detectSnapshot } from "../../src/detect/detect.js";
import { ROOT } from "../support/pools.js";

interface Recorded {
  id: string;
  input: Record<string, unknown>;
}

const { cases } = JSON.parse(readFileSync(join(ROOT, "test/fixtures/detection/cases.json"), "utf8")) as {
  cases: Recorded[];
};

function recorded(id: string): Recorded {
  const found = cases.find((each) => each.id === id);
  if (found === undefined) throw new Error(`no case ${id}`);
  return structuredClone(found);
}

type Input = Record<string, never> & {
  cpuid: { leaves: Record<string, Record<string, string>> } | null;
  dmi: Record<string, string> | null;
  files: Record<string, string | null>;
  sysctl: Record<string, string>;
};

const ids = ({ interfaces }: DetectionReport): string => interfaces.map(({ id }) => id).join(" ");

/**
 * Each rule, the recorded machine that pins it, the change of that machine that takes the rule's ground away, and
 * what the report then says instead: a rule that is missing or too broad fails on one side or the other.
 */
const RULES: readonly (readonly [
  string,
  string,
  (input: Input) => void,
  (report: DetectionReport) => unknown,
  unknown,
  unknown,
])[] = [
  [
    "a signature names an interface",
    "kvm-q35",
    (i) => delete i.cpuid?.leaves["0x40000000"],
    (r) => r.primary,
    "kvm",
    "qemu",
  ],
  [
    "without the hypervisor bit the leaves mean nothing",
    "bare-intel-printable-garbage",
    (i) => set(i, "0x00000001", "ecx", "0x80000000"),
    (r) => r.virtual,
    false,
    true,
  ],
  [
    "a second range is found",
    "kvm-hv-enlightened",
    (i) => delete i.cpuid?.leaves["0x40000100"],
    ids,
    "kvm hyperv",
    "hyperv",
  ],
  [
    "Hyper-V beside KVM is emulated",
    "kvm-hv-enlightened",
    (i) => delete i.cpuid?.leaves["0x40000100"],
    (r) => r.interfaces.find(({ id }) => id === "hyperv")?.emulated,
    true,
    false,
  ],
  [
    "Hv#1 names the interface under a foreign vendor",
    "kvm-hidden-custom-hv",
    (i) => set(i, "0x40000001", "eax", "0x0"),
    ids,
    "hyperv",
    "",
  ],
  [
    "a set bit without explanation is an unknown hypervisor",
    "kvm-hidden",
    (i) => set(i, "0x00000001", "ecx", "0x0"),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "the root partition of Hyper-V is a host",
    "hyperv-root-linux",
    (i) => set(i, "0x40000003", "ebx", "0x0"),
    (r) => r.interfaces[0]?.role,
    "host",
    "guest",
  ],
  [
    "Hyper-V says that it is nested",
    "hyperv-guest-of-nested",
    (i) => set(i, "0x40000004", "eax", "0x0"),
    (r) => r.nested,
    true,
    false,
  ],
  [
    "Hyper-V tells the isolation",
    "hyperv-cvm-snp",
    (i) => set(i, "0x4000000c", "ebx", "0x0"),
    (r) => r.confidential,
    "sev-snp",
    null,
  ],
  [
    "ACRN's service machine is a host",
    "acrn-service",
    (i) => set(i, "0x40000001", "eax", "0x0"),
    (r) => r.interfaces[0]?.role,
    "host",
    "guest",
  ],
  [
    "strong text counts although the bit is hidden",
    "vmware-hidden-bit",
    (i) => delete (i as { dmi?: unknown }).dmi,
    (r) => r.primary,
    "vmware",
    null,
  ],
  [
    "weak text does not count against a clear bit",
    "gce-metal",
    (i) => ((i as { cpuid: unknown }).cpuid = null),
    (r) => r.primary,
    null,
    "kvm",
  ],
  [
    "a metal instance of EC2 is no guest",
    "ec2-metal-size",
    (i) => Object.assign(i.dmi ?? {}, { product_name: "c7g.large" }),
    (r) => r.primary,
    null,
    "kvm",
  ],
  [
    "Microsoft as the maker alone is no Hyper-V",
    "surface-bare",
    (i) => Object.assign(i.dmi ?? {}, { product_name: "Virtual Machine" }),
    (r) => r.primary,
    null,
    "hyperv",
  ],
  ["xenfs names dom0", "xen-dom0", notDom0, (r) => r.interfaces[0]?.role, "host", "guest"],
  [
    "Xen's feature bit names dom0",
    "xen-dom0-features-only",
    (i) => (i.files["/sys/hypervisor/properties/features"] = "00002705\n"),
    (r) => r.interfaces[0]?.role,
    "host",
    "guest",
  ],
  [
    "a host beside a guest is nested",
    "xen-dom0-on-kvm",
    (i) => {
      set(i, "0x00000001", "ecx", "0x0");
      i.dmi = { sys_vendor: "Dell Inc." };
    },
    (r) => r.nested,
    true,
    false,
  ],
  [
    "the device tree names Xen",
    "xen-arm64",
    (i) => delete i.files["/proc/device-tree/hypervisor/compatible"],
    (r) => evidence(r, "devicetree"),
    true,
    false,
  ],
  [
    "fw-cfg in the device tree is QEMU",
    "qemu-arm64-dt",
    (i) => delete i.files["/proc/device-tree/fw-cfg@9020000/compatible"],
    (r) => r.primary,
    "qemu",
    "unknown",
  ],
  [
    "VMBus in ACPI speaks for Hyper-V",
    "hyperv-gen1",
    (i) => delete i.files["/sys/bus/acpi/devices/VMBUS:00/hid"],
    (r) => evidence(r, "acpi"),
    true,
    false,
  ],
  [
    "a leftover /.dockerenv is no container",
    "kvm-firecracker-no-dmi",
    (i) => (i.files["/proc/1/cgroup"] = "0::/docker/0123456789ab\n"),
    (r) => r.container,
    null,
    "docker",
  ],
  [
    "the kernel's release names WSL",
    "wsl2",
    (i) => (i.files["/proc/sys/kernel/osrelease"] = "6.1.0\n"),
    (r) => r.container,
    "wsl",
    null,
  ],
  [
    "the chassis asset tag names Azure",
    "azure",
    (i) => (i.dmi ? delete i.dmi["chassis_asset_tag"] : 0),
    (r) => r.platform,
    "azure",
    null,
  ],
  [
    "FreeBSD's kernel names the hypervisor",
    "freebsd-vbox",
    (i) => (i.sysctl["kern.vm_guest"] = "none"),
    (r) => evidence(r, "sysctl"),
    true,
    false,
  ],
  [
    "a virtual Mac says so",
    "darwin-vz-arm64",
    (i) => (i.sysctl["kern.hv_vmm_present"] = "0"),
    (r) => r.primary,
    "apple",
    null,
  ],
  [
    "an unexplained bit is Xen's own in a controlling domain",
    "xen-dom0-pv-amd",
    notDom0,
    (r) => r.virtual,
    false,
    true,
  ],
  [
    "a named range proves a hypervisor below a controlling domain",
    "xen-dom0-on-kvm",
    (i) => {
      delete i.cpuid?.leaves["0x40000000"];
      i.dmi = { sys_vendor: "Dell Inc." };
    },
    (r) => r.primary,
    "kvm",
    null,
  ],
  [
    "QEMU's configuration device is a virtual machine's",
    "alibaba-arm64",
    (i) => (i.files = {}),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "QEMU's panic device is a virtual machine's",
    "tencent-no-cpuid",
    (i) => (i.files = {}),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "QEMU's PCI vendor is a virtual machine's",
    "nutanix-ahv-no-cpuid",
    (i) => (i.files = pci("80861237")),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "virtio counts beside a cloud's text",
    "scaleway-arm64",
    (i) => (i.dmi = { sys_vendor: "GIGABYTE" }),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "virtio does not count beside the text of an ordinary maker",
    "virtio-card-arm64",
    (i) => (i.dmi = { sys_vendor: "Scaleway" }),
    (r) => r.primary,
    null,
    "unknown",
  ],
  [
    "virtio does not count against a clear bit",
    "hetzner-server-x64",
    (i) => ((i as { cpuid: unknown }).cpuid = null),
    (r) => r.primary,
    null,
    "unknown",
  ],
  [
    "a virtio bus counts as virtio in PCI does",
    "yandex-no-cpuid",
    (i) => (i.files = {}),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "a cloud's text alone is no evidence",
    "hetzner-server-arm64",
    (i) => (i.dmi = { ...i.dmi, chassis_vendor: "QEMU" }),
    (r) => r.primary,
    null,
    "unknown",
  ],
  [
    "a management product's text alone is no evidence",
    "nutanix-nx-server",
    (i) => (i.files = pci("1b360001")),
    (r) => r.primary,
    null,
    "unknown",
  ],
  [
    "VirtualBox is known by its devices beside another's interface",
    "virtualbox-host-texts-kvm",
    (i) => (i.files = pci("80861237")),
    ids,
    "kvm virtualbox",
    "kvm",
  ],
  [
    "VMware is known by its devices",
    "vmware-host-texts-hidden",
    (i) => (i.files = pci("15ad0405")),
    (r) => r.primary,
    "vmware",
    "unknown",
  ],
  [
    "VMware's screen is not only VMware's",
    "qemu-vmware-screen-hidden",
    (i) => (i.files = pci("15ad0405", "15ad0740")),
    (r) => r.primary,
    "unknown",
    "vmware",
  ],
  [
    "Microsoft's vendor id alone is no Hyper-V",
    "microsoft-nic-bare",
    (i) => (i.files = pci("14145353")),
    (r) => r.primary,
    null,
    "hyperv",
  ],
  [
    "devices do not outvote a signature",
    "kvm-vmware-screen",
    (i) => delete i.cpuid?.leaves["0x40000000"],
    ids,
    "kvm",
    "",
  ],
  [
    "the firmware's bit does not outvote a clear bit of the processor",
    "lenovo-a740-vm-bit",
    (i) => ((i as { cpuid: unknown }).cpuid = null),
    (r) => r.primary,
    null,
    "unknown",
  ],
  [
    "the firmware's bit counts beside the text of a machine model",
    "vm-bit-machine-model",
    (i) => (i.dmi = { sys_vendor: "LENOVO" }),
    (r) => r.primary,
    "unknown",
    null,
  ],
  [
    "a machine model that exists nowhere else outvotes a clear bit",
    "qemu-standard-pc-hidden",
    (i) => (i.dmi = { sys_vendor: "QEMU" }),
    (r) => r.primary,
    "qemu",
    null,
  ],
  [
    "Red Hat's KVM outvotes a clear bit",
    "redhat-kvm-hidden",
    (i) => (i.dmi = { sys_vendor: "Red Hat" }),
    (r) => r.primary,
    "kvm",
    null,
  ],
  [
    "a product named KVM is not enough",
    "pc-named-kvm",
    (i) => (i.dmi = { ...i.dmi, sys_vendor: "Red Hat" }),
    (r) => r.primary,
    null,
    "kvm",
  ],
  [
    "QEMU's processor tells old QEMU from Bochs",
    "bochs-old-qemu-no-cpuid",
    (i) => (i.files["/proc/cpuinfo"] = "model name\t: Intel(R) Xeon(R)\nflags\t\t: hypervisor\n"),
    (r) => r.primary,
    "qemu",
    "bochs",
  ],
  [
    "QEMU's processor counts although the bit is clear",
    "bochs-old-qemu",
    (i) => delete i.cpuid?.leaves["0x80000002"],
    (r) => r.primary,
    "qemu",
    null,
  ],
  [
    "Xen beside KVM is emulated",
    "kvm-xen-emulated",
    (i) => delete i.cpuid?.leaves["0x40000100"],
    (r) => r.interfaces.find(({ id }) => id === "xen")?.emulated,
    true,
    false,
  ],
  [
    "the model names a virtual Mac without the variable, not against it",
    "darwin-vmware-model-alone",
    (i) => (i.sysctl["kern.hv_vmm_present"] = "0"),
    (r) => r.primary,
    "vmware",
    null,
  ],
  [
    "the device tree names Hyper-V",
    "hyperv-arm64-dt",
    (i) => (i.files["/proc/device-tree/hypervisor/compatible"] = "microsoft,other\0"),
    (r) => r.primary,
    "hyperv",
    "unknown",
  ],
  [
    "crosvm is known by its texts",
    "crosvm",
    (i) => (i.dmi = { sys_vendor: "ChromiumOS" }),
    (r) => r.primary,
    "kvm",
    null,
  ],
  [
    "the control group names LXC",
    "lxc-cgroup2",
    (i) => (i.files["/proc/1/cgroup"] = "0::/lxc.monitor.mail\n"),
    (r) => r.container,
    "lxc",
    null,
  ],
];

function pci(...devices: readonly string[]): Record<string, string> {
  return { "/proc/bus/pci/devices": devices.map((id) => `0000\t${id}\t0\n`).join("") };
}

function set(input: Input, leaf: string, register: string, value: string): void {
  const registers = input.cpuid?.leaves[leaf];
  if (registers === undefined) throw new Error(`the case has no leaf ${leaf}`);
  registers[register] = value;
}

function notDom0(input: Input): void {
  delete input.files["/sys/hypervisor/properties/features"];
  input.files["/proc/xen/capabilities"] = "";
}

function evidence(report: DetectionReport, kind: string): boolean {
  return report.interfaces.some((each) => each.evidence.some(({ source }) => source === kind));
}

describe("detection rules", () => {
  for (const [rule, id, change, ask, expected, otherwise] of RULES) {
    it(`${rule} (${id})`, () => {
      expect(ask(detectSnapshot(recorded(id)))).to.equal(expected);
      const changed = recorded(id);
      change(changed.input as unknown as Input);
      expect(ask(detectSnapshot(changed)), "without its ground").to.equal(otherwise);
    });
  }
});
