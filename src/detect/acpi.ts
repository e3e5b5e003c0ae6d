import { textOf } from "../base/firmware/fact.js";
import { ownEntry } from "../base/own.js";
import type { Facts } from "./facts.js";
import type { Findings } from "./findings.js";

const DEVICES = "/sys/bus/acpi/devices";
/** What the FADT's hypervisor vendor identity names (ACPI 6.0; Linux arch/arm64/hyperv/mshyperv.c). */
export const FADT_IDS: Readonly<Record<string, string>> = {
  MsHyperV: "hyperv",
  XenVMM: "xen",
  FIRECKVM: "kvm",
};

/** Returns the hypervisor vendor identity of the FADT, empty where there is none. */
export function fadtIdentity(facts: Facts): string {
  return textOf(facts.fadtHypervisorId()).replaceAll("\0", "").trim();
}

/** Judges what ACPI shows: VMBus and its driver, the FADT's identity, the generation counter of any hypervisor. */
export function judgeAcpi(facts: Facts, findings: Findings): void {
  for (const name of facts.names(DEVICES)) {
    const place = `${DEVICES}/${name}/hid`;
    if (/^vmbus:/i.test(name) || /^vmbus$/i.test(textOf(facts.file(place)))) {
      findings.add("hyperv", "acpi", `${place}: ${textOf(facts.file(place))}`);
    }
    if (/^VMGENCTR:/.test(name)) findings.hints.push(`${DEVICES}/${name}`);
  }
  if (facts.file("/sys/bus/vmbus").kind === "value") {
    findings.add("hyperv", "sysfs", "/sys/bus/vmbus: VMBus driver is loaded");
  }
  const identity = fadtIdentity(facts);
  const id = ownEntry(FADT_IDS, identity);
  if (id !== undefined) findings.add(id, "acpi", `FADT hypervisor vendor identity: ${identity}`);
  else if (identity !== "") findings.hints.push(`FADT hypervisor vendor identity: ${identity}`);
}
