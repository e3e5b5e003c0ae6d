import { textOf } from "../base/firmware/fact.js";
import { fadtIdentity } from "./acpi.js";
import type { CpuidScan } from "./cpuid-scan.js";
import { matchDmi } from "./dmi-rules.js";
import type { Facts } from "./facts.js";
import type { Findings } from "./findings.js";

const CLOCKSOURCES = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/** Clocks that a kernel offers under one hypervisor; they are there only where that part of the kernel is built in. */
export const CLOCKS: ReadonlyMap<string, string> = new Map([
  ["kvm-clock", "kvm"],
  ["hyperv_clocksource_tsc_page", "hyperv"],
  ["hyperv_clocksource_msr", "hyperv"],
  ["xen", "xen"],
]);

/** Something real has a name: a guest's interface of its own, or a signature of the processor. */
function isNamed(scan: CpuidScan, { byId }: Findings): boolean {
  if (scan.ranges.some(({ id }) => id !== undefined)) return true;
  return [...byId.values()].some(({ role, emulated }) => role === "guest" && !emulated);
}

/**
 * Judges what counts only where nothing better was found: texts that name a machine model, clocks and, where neither
 * says anything, device trees of virtual machine models. A clear hypervisor bit outweighs texts and clocks.
 */
export function judgeWeakEvidence(facts: Facts, scan: CpuidScan, findings: Findings): void {
  if (isNamed(scan, findings)) return;
  if (scan.hypervisorBit !== false) {
    const named = matchDmi(facts).find(({ strength }) => strength === "weak");
    if (named !== undefined) return void findings.add(named.id, named.source, named.detail);
    if (fadtIdentity(facts) === "QEMU")
      return void findings.add("qemu", "acpi", "FADT hypervisor vendor identity: QEMU");
    const clock = textOf(facts.file(CLOCKSOURCES))
      .split(/\s+/)
      .find((each) => CLOCKS.has(each));
    if (clock !== undefined)
      return void findings.add(CLOCKS.get(clock) as string, "sysfs", `${CLOCKSOURCES}: ${clock}`);
  }
  const firmwareConfig = facts.names("/proc/device-tree").find((name) => name.startsWith("fw-cfg@"));
  if (firmwareConfig !== undefined) findings.add("qemu", "devicetree", `/proc/device-tree/${firmwareConfig}`);
  else if (textOf(facts.file("/proc/device-tree/compatible")).includes("linux,dummy-virt"))
    findings.unexplained = true;
}
