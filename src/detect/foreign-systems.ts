import { known, textOf } from "../base/firmware/fact.js";
import { ownEntry } from "../base/own.js";
import { INTERFACE_KINDS, idOfSignature } from "../contract/interfaces.js";
import type { Facts } from "./facts.js";
import type { Findings } from "./findings.js";

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

/** Judges what the kernels of the BSDs and macOS say of themselves, and Windows' registry. */
export function judgeForeignSystems(facts: Facts, findings: Findings): void {
  judgeWindows(facts, findings);
  judgeFreebsd(facts, findings);
  judgeOpenbsd(facts, findings);
  const netbsd = textOf(facts.sysctl("machdep.hypervisor"));
  addByBeginning(NETBSD_GUESTS, netbsd, "machdep.hypervisor", findings);
  if (textOf(facts.sysctl("kern.hv_vmm_present")) === "1") {
    const model = textOf(facts.sysctl("hw.model"));
    if (!addByBeginning(MAC_MODELS, model, "kern.hv_vmm_present: 1, hw.model", findings))
      findings.unexplained = true;
  }
}

function addByBeginning(
  table: readonly (readonly [string, string])[],
  text: string,
  name: string,
  findings: Findings,
): boolean {
  const id = table.find(([beginning]) => text.startsWith(beginning))?.[1];
  if (id !== undefined) findings.add(id, "sysctl", `${name}: ${text}`);
  return id !== undefined;
}

function judgeFreebsd(facts: Facts, findings: Findings): void {
  const guest = textOf(facts.sysctl("kern.vm_guest"));
  const id = ownEntry(FREEBSD_GUESTS, guest);
  if (id !== undefined) findings.add(id, "sysctl", `kern.vm_guest: ${guest}`);
  else if (guest === "generic") findings.unexplained = true;
  // Not trimmed: a signature may end with a space.
  const vendor = known(facts.sysctl("hw.hv_vendor")) ?? "";
  const named = idOfSignature(vendor);
  if (named !== undefined) findings.add(named, "sysctl", `hw.hv_vendor: ${vendor}`);
}

function judgeOpenbsd(facts: Facts, findings: Findings): void {
  const idOfType = (type: string): string | undefined =>
    INTERFACE_KINDS.find((kind) => kind.type === type)?.id;
  for (const [device, type] of facts.pvbusTypes()) {
    const id = idOfType(type);
    if (id !== undefined) findings.add(id, "ioctl", `${device}: ${type}`);
  }
  const line = /^pvbus0 at mainbus0: (.*)$/m.exec(textOf(facts.file("/var/run/dmesg.boot")));
  for (const name of line?.[1]?.split(", ") ?? []) {
    const id = idOfType(name.replace(/ \d{1,5}\.\d{1,5}$/, ""));
    if (id !== undefined) findings.add(id, "dmesg", line?.[0] ?? "");
  }
}

function judgeWindows(facts: Facts, findings: Findings): void {
  for (const name of ["HostName", "PhysicalHostName", "VirtualMachineName"]) {
    if (facts.registry(HYPERV_PARAMETERS, name).kind !== "value") continue;
    findings.add("hyperv", "registry", `${HYPERV_PARAMETERS} has ${name}`);
    return;
  }
}
