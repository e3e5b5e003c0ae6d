import { ABSENT, textOf } from "../base/firmware/fact.js";
import { ownEntry } from "../base/own.js";
import type { Facts, Findings } from "./facts.js";

/** ACPI devices by their names. */
export const DEVICES = "/sys/bus/acpi/devices";
const DEVICE_TREE_NODE = "/proc/device-tree/hypervisor/compatible";
const XEN_INITIAL_DOMAIN = 1 << 11;
/** The generation counter of any hypervisor, QEMU's panic device and its configuration, by their names in {@link DEVICES}. */
export const VIRTUAL_DEVICE = /^(VMGENCTR|QEMU000[12]):/;
/** Hyper-V's bus, likewise. */
export const VMBUS = /^vmbus:/i;
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
export function fadtIdentity(facts: Facts): string {
  return textOf(facts.fadtHypervisorId()).replaceAll("\0", "").trim();
}

/** VMBus and its driver, the FADT's identity, devices of virtual machines alone. */
function judgeAcpi(facts: Facts, findings: Findings): void {
  // A device's name is its hardware id and a number; to read the ids one by one takes ten times as long.
  for (const name of facts.names(DEVICES)) {
    if (VIRTUAL_DEVICE.test(name)) findings.hinted = true;
    else if (VMBUS.test(name)) findings.add("hyperv", "acpi", () => `${DEVICES}/${name}`);
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
  const hasXenfs = facts.file("/proc/xen").kind === "value";
  const capabilities = hasXenfs ? facts.file("/proc/xen/capabilities") : ABSENT;
  if (hasXenfs) {
    findings.add("xen", "procfs", () => `/proc/xen/capabilities: ${textOf(capabilities) || "(empty)"}`);
  }
  const xen = findings.byId.get("xen");
  if (xen === undefined) return;
  const features = Number.parseInt(textOf(facts.file("/sys/hypervisor/properties/features")) || "0", 16);
  const isControl = (features & XEN_INITIAL_DOMAIN) !== 0 || textOf(capabilities).includes("control_d");
  if (isControl) xen.role = "host";
}

function judgeDeviceTree(facts: Facts, findings: Findings): void {
  const node = facts.file(DEVICE_TREE_NODE);
  if (node.kind !== "value") return;
  const names = node.value.split("\0").filter((name) => name !== "");
  const detail = (): string => `${DEVICE_TREE_NODE}: ${names.join(", ")}`;
  if (names.some((name) => name.startsWith("xen,xen"))) findings.add("xen", "devicetree", detail);
  else if (names.length === 1 && names[0] === "linux,kvm") findings.add("kvm", "devicetree", detail);
  else if (names.includes("microsoft,hyperv")) findings.add("hyperv", "devicetree", detail);
  else if (names.some((name) => name.includes("vmware"))) findings.add("vmware", "devicetree", detail);
  else findings.unexplained = true;
}
