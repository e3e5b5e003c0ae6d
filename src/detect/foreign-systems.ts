import { known, textOf } from "../base/firmware/fact.js";
import { ownEntry } from "../base/own.js";
import { idOfSignature, idOfType } from "../contract/interfaces.js";
import type { Facts, Findings } from "./facts.js";

/** FreeBSD's kern.vm_guest (sys/kern/subr_param.c). */
export const FREEBSD_GUESTS: Readonly<Record<string, string>> = {
  xen: "xen",
  hv: "hyperv",
  vmware: "vmware",
  kvm: "kvm",
  bhyve: "bhyve",
  vbox: "virtualbox",
  parallels: "parallels",
  nvmm: "nvmm",
};

/** NetBSD's machdep.hypervisor by its beginning (sys/arch/x86/include/cpu.h). */
export const NETBSD_GUESTS: readonly (readonly [string, string])[] = [
  ["Xen", "xen"],
  ["Hyper-V", "hyperv"],
  ["VMware", "vmware"],
  ["KVM", "kvm"],
  ["VirtualBox", "virtualbox"],
];

/** Machine models of virtual Macs. */
export const MAC_MODELS: readonly (readonly [string, string])[] = [
  ["VirtualMac", "apple"],
  ["VMware", "vmware"],
  ["Parallels", "parallels"],
];

/** Where the integration services of a Windows guest keep what a Hyper-V host says. */
export const HYPERV_PARAMETERS = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Guest\\Parameters";
export const HYPERV_NAMES = ["HostName", "PhysicalHostName", "VirtualMachineName"];

/** Judges what the kernels of the BSDs and macOS say of themselves, and Windows' registry. */
export function judgeForeignSystems(facts: Facts, findings: Findings): void {
  judgeWindows(facts, findings);
  judgeFreebsd(facts, findings);
  judgeOpenbsd(facts, findings);
  const netbsd = textOf(facts.sysctl("machdep.hypervisor"));
  addByBeginning(NETBSD_GUESTS, netbsd, "machdep.hypervisor", findings);
  judgeMac(facts, findings);
}

function judgeMac(facts: Facts, findings: Findings): void {
  const present = facts.sysctl("kern.hv_vmm_present");
  if (textOf(present) === "0") return;
  const model = textOf(facts.sysctl("hw.model"));
  // Older systems do not have the first variable.
  const names = present.kind === "value" ? `kern.hv_vmm_present: ${textOf(present)}, hw.model` : "hw.model";
  if (!addByBeginning(MAC_MODELS, model, names, findings) && textOf(present) === "1")
    findings.unexplained = true;
}

function addByBeginning(
  table: readonly (readonly [string, string])[],
  text: string,
  name: string,
  findings: Findings,
): boolean {
  const id = table.find(([beginning]) => text.startsWith(beginning))?.[1];
  if (id !== undefined) findings.add(id, "sysctl", () => `${name}: ${text}`);
  return id !== undefined;
}

function judgeFreebsd(facts: Facts, findings: Findings): void {
  const guest = textOf(facts.sysctl("kern.vm_guest"));
  const id = ownEntry(FREEBSD_GUESTS, guest);
  if (id !== undefined) findings.add(id, "sysctl", () => `kern.vm_guest: ${guest}`);
  else if (guest === "generic") findings.unexplained = true;
  // Not trimmed: a signature may end with a space.
  const vendor = known(facts.sysctl("hw.hv_vendor")) ?? "";
  const named = idOfSignature(vendor);
  if (named !== undefined) findings.add(named, "sysctl", () => `hw.hv_vendor: ${vendor}`);
}

function judgeOpenbsd(facts: Facts, findings: Findings): void {
  for (const [device, type] of facts.pvbusTypes()) {
    const id = idOfType(type);
    if (id !== undefined) findings.add(id, "ioctl", () => `${device}: ${type}`);
  }
  const names = busNames(textOf(facts.file("/var/run/dmesg.boot")));
  for (const { id } of names) if (id !== undefined) findings.add(id, "dmesg", () => busLine(names));
}

/** Returns what OpenBSD's boot messages name on the bus, `Hyper-V 10.0`, and the id where it is a known type. */
export function busNames(messages: string) {
  const names = /^pvbus0 at mainbus0: (.*)$/m.exec(messages)?.[1]?.split(", ") ?? [];
  return names.map((name) => ({ name, id: idOfType(name.replace(/ \d{1,5}\.\d{1,5}$/, "")) }));
}

/** Returns the line of the boot messages that has these names. */
export function busLine(names: ReturnType<typeof busNames>): string {
  return `pvbus0 at mainbus0: ${names.map(({ name }) => name).join(", ")}`;
}

function judgeWindows(facts: Facts, findings: Findings): void {
  const found = HYPERV_NAMES.find((name) => facts.registry(HYPERV_PARAMETERS, name).kind === "value");
  if (found !== undefined) findings.add("hyperv", "registry", () => `${HYPERV_PARAMETERS} has ${found}`);
}
