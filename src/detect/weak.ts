import { firmwareText } from "../base/firmware/dmi.js";
import { known, textOf } from "../base/firmware/fact.js";
import { type CpuidScan, processorName } from "./cpuid.js";
import { hasVirtioDevice, hasVirtualDevice, namedDevice } from "./devices.js";
import type { Facts, Findings } from "./facts.js";
import { fadtIdentity } from "./linux.js";
import { type DmiMatch, namesCloudProduct } from "./rules.js";

const CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/** Name of QEMU's own processor models, as far as one CPUID leaf holds it. */
export const QEMU_PROCESSOR = "QEMU Virtual CPU";

/** Clocks that a kernel offers under one hypervisor; they are there only where that part of the kernel is built in. */
export const CLOCKS: ReadonlyMap<string, string> = new Map([
  ["kvm-clock", "kvm"],
  ["hyperv_clocksource_tsc_page", "hyperv"],
  ["hyperv_clocksource_msr", "hyperv"],
  ["xen", "xen"],
]);

/**
 * Judges what counts only where nothing better was found: texts that name a machine model, the processor's name, devices, clocks
 * and, where none says anything, device trees of virtual machine models. A clear hypervisor bit outweighs clocks and the texts
 * that a physical machine may have.
 */
export function judgeWeakEvidence(
  facts: Facts,
  scan: CpuidScan,
  findings: Findings,
  texts: readonly DmiMatch[],
): void {
  judgeBorrowedFirmware(facts, findings, texts);
  // Something real has a name: a signature of the processor, or a guest's interface of its own.
  if (scan.ranges.some(({ id }) => id !== undefined)) return;
  if ([...findings.byId.values()].some(({ role, emulated }) => role === "guest" && !emulated)) return;
  const model = texts.find(({ strength }) => strength === "model");
  if (model !== undefined) return void findings.add(model.id, model.source, model.detail);
  // On AMD a PV dom0 sees the bit that Xen sets and no signature, and its kernel has Xen's clock.
  if (!(findings.isControlDomain && scan.asked) && judgeTraces(facts, scan, findings, texts)) return;
  const firmwareConfig = facts.names("/proc/device-tree").find((name) => name.startsWith("fw-cfg@"));
  if (firmwareConfig !== undefined)
    findings.add("qemu", "devicetree", () => `/proc/device-tree/${firmwareConfig}`);
  else if (textOf(facts.file("/proc/device-tree/compatible")).includes("linux,dummy-virt"))
    findings.unexplained = true;
}

/** VirtualBox offers KVM's or Hyper-V's interface in place of its own; with the firmware texts of its host its devices remain. */
function judgeBorrowedFirmware(facts: Facts, findings: Findings, texts: readonly DmiMatch[]): void {
  if (texts.length > 0 || findings.isControlDomain || firmwareText(facts, "sys_vendor").text === "") return;
  if ([...findings.byId.keys()].some((id) => id !== "kvm" && id !== "hyperv")) return;
  const found = namedDevice(facts, "virtualbox");
  if (found !== undefined) findings.add(found.id, "procfs", () => found.detail);
}

function judgeTraces(facts: Facts, scan: CpuidScan, findings: Findings, texts: readonly DmiMatch[]): boolean {
  const mayBeVirtual = scan.hypervisorBit !== false;
  const text = mayBeVirtual ? texts.find(({ strength }) => strength === "weak") : undefined;
  // Bochs' firmware came with QEMU too, for years.
  if (text !== undefined && text.id !== "bochs") findings.add(text.id, text.source, text.detail);
  else if (processorName(facts) === QEMU_PROCESSOR)
    findings.add("qemu", scan.asked ? "cpuid" : "procfs", () => `processor: ${QEMU_PROCESSOR}`);
  else if (text !== undefined) findings.add(text.id, text.source, text.detail);
  else if (mayBeVirtual && fadtIdentity(facts) === "QEMU")
    findings.add("qemu", "acpi", () => "FADT hypervisor vendor identity: QEMU");
  else {
    const device = namedDevice(facts);
    const clock = textOf(facts.file(CLOCKSOURCES))
      .split(/\s+/)
      .find((each) => CLOCKS.has(each));
    if (device !== undefined) findings.add(device.id, "procfs", () => device.detail);
    else if (mayBeVirtual && clock !== undefined)
      findings.add(CLOCKS.get(clock) as string, "sysfs", () => `${CLOCKSOURCES}: ${clock}`);
    else return false;
  }
  return true;
}

/** Reports whether this is some virtual machine although nothing names its hypervisor. */
export function isSomeMachine(
  facts: Facts,
  scan: CpuidScan,
  findings: Findings,
  texts: readonly DmiMatch[],
): boolean {
  if (findings.hinted || hasVirtualDevice(facts)) return true;
  // Firmware of some physical machines has the bit set (Lenovo A740, IBM 4810).
  const isMakers = texts.length === 0 && firmwareText(facts, "sys_vendor").text !== "";
  if (!(scan.hypervisorBit === false && isMakers) && known(facts.smbiosVmBit()) === true) return true;
  // These names are on physical servers too, and so is virtio, but hardly together.
  return (
    scan.hypervisorBit === undefined &&
    namesCloudProduct(facts) &&
    (hasVirtioDevice(facts) || firmwareText(facts, "chassis_vendor").text === "QEMU")
  );
}
