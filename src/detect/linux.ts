import { textOf } from "../base/firmware/fact.js";
import { ownEntry } from "../base/own.js";
import type { CpuidScan } from "./cpuid.js";
import type { Facts, Findings } from "./facts.js";
import type { DmiMatch } from "./rules.js";

const DEVICES = "/sys/bus/acpi/devices";
const DEVICE_TREE_NODE = "/proc/device-tree/hypervisor/compatible";
const CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
const XEN_INITIAL_DOMAIN = 1 << 11;
/** What the FADT's hypervisor vendor identity names (ACPI 6.0; Linux arch/arm64/hyperv/mshyperv.c). */
export const FADT_IDS: Readonly<Record<string, string>> = {
  MsHyperV: "hyperv",
  XenVMM: "xen",
  FIRECKVM: "kvm",
};

/** Judges what Xen's own files, the device tree and ACPI show. */
export function judgeLinux(facts: Facts, findings: Findings): void {
  judgeXenFiles(facts, findings);
  judgeDeviceTree(facts, findings);
  judgeAcpi(facts, findings);
}

/** Returns the hypervisor vendor identity of the FADT, empty where there is none. */
function fadtIdentity(facts: Facts): string {
  return textOf(facts.fadtHypervisorId()).replaceAll("\0", "").trim();
}

/** VMBus and its driver, the FADT's identity, the generation counter of any hypervisor. */
function judgeAcpi(facts: Facts, findings: Findings): void {
  // A device's name is its hardware id and a number; to read the ids one by one takes ten times as long.
  for (const name of facts.names(DEVICES)) {
    if (/^vmbus:/i.test(name)) findings.add("hyperv", "acpi", () => `${DEVICES}/${name}`);
    if (/^VMGENCTR:/.test(name)) findings.hinted = true;
  }
  if (facts.file("/sys/bus/vmbus").kind === "value")
    findings.add("hyperv", "sysfs", () => "/sys/bus/vmbus: VMBus driver is loaded");
  const identity = fadtIdentity(facts);
  const id = ownEntry(FADT_IDS, identity);
  if (id !== undefined) findings.add(id, "acpi", () => `FADT hypervisor vendor identity: ${identity}`);
  else if (identity !== "") findings.hinted = true;
}

function judgeXenFiles(facts: Facts, findings: Findings): void {
  if (textOf(facts.file("/sys/hypervisor/type")) === "xen") {
    const guestType = textOf(facts.file("/sys/hypervisor/guest_type"));
    const found = findings.add(
      "xen",
      "sysfs",
      () => `/sys/hypervisor/type: xen${guestType && `, guest_type: ${guestType}`}`,
    );
    found.guestType = guestType || undefined;
  }
  const capabilities = facts.file("/proc/xen/capabilities");
  if (capabilities.kind === "value" || facts.file("/proc/xen").kind === "value") {
    findings.add("xen", "procfs", () => `/proc/xen/capabilities: ${textOf(capabilities) || "(empty)"}`);
  }
  const xen = findings.byId.get("xen");
  const features = Number.parseInt(textOf(facts.file("/sys/hypervisor/properties/features")) || "0", 16);
  const isControl = (features & XEN_INITIAL_DOMAIN) !== 0 || textOf(capabilities).includes("control_d");
  if (xen !== undefined && isControl) xen.role = "host";
}

function judgeDeviceTree(facts: Facts, findings: Findings): void {
  const node = facts.file(DEVICE_TREE_NODE);
  if (node.kind !== "value") return;
  const names = node.value.split("\0").filter((name) => name !== "");
  const detail = (): string => `${DEVICE_TREE_NODE}: ${names.join(", ")}`;
  if (names.some((name) => name.startsWith("xen,xen"))) findings.add("xen", "devicetree", detail);
  else if (names.length === 1 && names[0] === "linux,kvm") findings.add("kvm", "devicetree", detail);
  else if (names.some((name) => name.includes("vmware"))) findings.add("vmware", "devicetree", detail);
  else findings.unexplained = true;
}

/** Clocks that a kernel offers under one hypervisor; they are there only where that part of the kernel is built in. */
export const CLOCKS: ReadonlyMap<string, string> = new Map([
  ["kvm-clock", "kvm"],
  ["hyperv_clocksource_tsc_page", "hyperv"],
  ["hyperv_clocksource_msr", "hyperv"],
  ["xen", "xen"],
]);

/**
 * Judges what counts only where nothing better was found: texts that name a machine model, clocks and, where neither
 * says anything, device trees of virtual machine models. A clear hypervisor bit outweighs texts and clocks.
 */
export function judgeWeakEvidence(
  facts: Facts,
  scan: CpuidScan,
  findings: Findings,
  texts: readonly DmiMatch[],
): void {
  // Something real has a name: a signature of the processor, or a guest's interface of its own.
  if (scan.ranges.some(({ id }) => id !== undefined)) return;
  if ([...findings.byId.values()].some(({ role, emulated }) => role === "guest" && !emulated)) return;
  if (scan.hypervisorBit !== false) {
    const named = texts.find(({ strength }) => strength === "weak");
    if (named !== undefined) return void findings.add(named.id, named.source, named.detail);
    if (fadtIdentity(facts) === "QEMU")
      return void findings.add("qemu", "acpi", () => "FADT hypervisor vendor identity: QEMU");
    const clock = textOf(facts.file(CLOCKSOURCES))
      .split(/\s+/)
      .find((each) => CLOCKS.has(each));
    if (clock !== undefined)
      return void findings.add(CLOCKS.get(clock) as string, "sysfs", () => `${CLOCKSOURCES}: ${clock}`);
  }
  const firmwareConfig = facts.names("/proc/device-tree").find((name) => name.startsWith("fw-cfg@"));
  if (firmwareConfig !== undefined)
    findings.add("qemu", "devicetree", () => `/proc/device-tree/${firmwareConfig}`);
  else if (textOf(facts.file("/proc/device-tree/compatible")).includes("linux,dummy-virt"))
    findings.unexplained = true;
}
