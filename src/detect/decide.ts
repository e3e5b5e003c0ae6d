import { known, textOf } from "../base/firmware/fact.js";
import { INTERFACE_KINDS, OPENBSD_ROWS, PRIMARY_ORDER, typeOfId } from "../contract/interfaces.js";
import type { DetectedInterface, DetectionReport, Evidence, EvidenceSource } from "../contract/report.js";
import { judgeAcpi } from "./acpi.js";
import { type CpuidScan, type ScanOptions, scanCpuid } from "./cpuid-scan.js";
import { cpuidDetails } from "./details.js";
import { matchDmi } from "./dmi-rules.js";
import { findConfidential, findContainer, findPlatform } from "./environment.js";
import type { Facts } from "./facts.js";
import { Findings, printable } from "./findings.js";
import { judgeForeignSystems } from "./foreign-systems.js";
import { judgeStrangers, type StrangerRules } from "./stranger-rules.js";
import { judgeWeakEvidence } from "./weak-evidence.js";

/** Guests of these offer the Hyper-V interface beside their own. */
const EMULATE_HYPERV = ["kvm", "xen", "vmware", "virtualbox", "parallels"];
/** Guests of these offer the KVM interface beside their own. */
const EMULATE_KVM = ["virtualbox", "parallels", "openbsd"];
const HYPERV_CPU_MANAGEMENT = 1 << 12;
const HYPERV_ISOLATION = 1 << 22;
const HYPERV_NESTED = 1 << 12;
const XEN_INITIAL_DOMAIN = 1 << 11;

const hex = (number: number): string => `0x${number.toString(16).padStart(8, "0")}`;

/** How to decide. */
export interface DecideOptions extends ScanOptions {
  /** Rules of interfaces that manifests from outside bring along. */
  readonly strangers?: readonly StrangerRules[] | undefined;
}

/** Decides from the facts of one machine, live or recorded, what interfaces it has and which one is real. */
export function decide(facts: Facts, options: DecideOptions = {}): DetectionReport {
  const findings = new Findings();
  const scan = scanCpuid(facts, options);
  judgeCpuid(facts, scan, findings);
  judgeStrongTexts(facts, findings);
  judgeXenFiles(facts, findings);
  judgeDeviceTree(facts, findings);
  judgeAcpi(facts, findings);
  judgeForeignSystems(facts, findings);
  judgeStrangers(facts, scan, findings, options.strangers ?? []);
  judgeWeakEvidence(facts, scan, findings);
  if (known(facts.smbiosVmBit()) === true) findings.hints.push("SMBIOS says that this is a virtual machine");
  if (findings.byId.size === 0 && findings.hints.length > 0) findings.unexplained = true;
  markEmulated(findings);

  const interfaces = inUnitOrder(findings, options.strangers ?? []);
  const primary = choosePrimary(interfaces, findings, scan);
  return {
    virtual: primary !== null,
    primary,
    primaryName: interfaces.find(({ id }) => id === primary)?.name ?? null,
    interfaces,
    platform: findPlatform(facts),
    container: findContainer(facts),
    confidential: findConfidential(facts, scan),
    nested: isNested(facts, scan, interfaces, primary),
    unreadable: unreadableSources(facts),
  };
}

function judgeCpuid(facts: Facts, scan: CpuidScan, findings: Findings): void {
  for (const { base, signature, id, isHypervInterface } of scan.ranges) {
    const leaf = (offset: number) => known(facts.cpuid(base + offset));
    if (id !== undefined) {
      const found = findings.add(id, "cpuid", `leaf ${hex(base)}: ${signature}`);
      found.base = base;
      if (id === "acrn" && ((leaf(1)?.eax ?? 0) & 1) === 1) found.role = "host";
      if (id !== "hyperv" && !isHypervInterface) found.details = cpuidDetails(id, leaf);
    }
    if (id === "hyperv" || isHypervInterface) {
      const found =
        findings.byId.get("hyperv") ??
        findings.add("hyperv", "cpuid", `leaf ${hex(base + 1)}: Hv#1 (${signature})`);
      found.base ??= base;
      found.emulated ||= id !== "hyperv";
      const privileges = leaf(3)?.ebx ?? 0;
      if ((privileges & HYPERV_CPU_MANAGEMENT) !== 0 && (privileges & HYPERV_ISOLATION) === 0)
        found.role = "host";
      found.details = cpuidDetails("hyperv", leaf);
    }
  }
}

/** Texts that name the virtual machine itself always count. */
function judgeStrongTexts(facts: Facts, findings: Findings): void {
  for (const { id, strength, source, detail } of matchDmi(facts)) {
    if (strength === "strong") findings.add(id, source, detail);
  }
}

function judgeXenFiles(facts: Facts, findings: Findings): void {
  const type = textOf(facts.file("/sys/hypervisor/type"));
  if (type === "xen") {
    const guestType = textOf(facts.file("/sys/hypervisor/guest_type"));
    const found = findings.add(
      "xen",
      "sysfs",
      `/sys/hypervisor/type: xen${guestType && `, guest_type: ${guestType}`}`,
    );
    if (guestType !== "") found.details = { ...found.details, guestType };
  }
  const capabilities = facts.file("/proc/xen/capabilities");
  if (capabilities.kind === "value" || facts.file("/proc/xen").kind === "value") {
    findings.add("xen", "procfs", `/proc/xen/capabilities: ${textOf(capabilities) || "(empty)"}`);
  }
  const xen = findings.byId.get("xen");
  const features = Number.parseInt(textOf(facts.file("/sys/hypervisor/properties/features")) || "0", 16);
  if (
    xen !== undefined &&
    ((features & XEN_INITIAL_DOMAIN) !== 0 || textOf(capabilities).includes("control_d"))
  ) {
    xen.role = "host";
  }
}

function judgeDeviceTree(facts: Facts, findings: Findings): void {
  const place = "/proc/device-tree/hypervisor/compatible";
  const node = facts.file(place);
  if (node.kind === "value") {
    const names = node.value.split("\0").filter((name) => name !== "");
    const detail = `${place}: ${names.join(", ")}`;
    if (names.some((name) => name.startsWith("xen,xen"))) findings.add("xen", "devicetree", detail);
    else if (names.length === 1 && names[0] === "linux,kvm") findings.add("kvm", "devicetree", detail);
    else if (names.some((name) => name.includes("vmware"))) findings.add("vmware", "devicetree", detail);
    else findings.unexplained = true;
  }
}

function markEmulated(findings: Findings): void {
  const guest = (id: string): boolean => findings.byId.get(id)?.role === "guest";
  const hyperv = findings.byId.get("hyperv");
  if (hyperv !== undefined && EMULATE_HYPERV.some(guest)) hyperv.emulated = true;
  const kvm = findings.byId.get("kvm");
  if (kvm !== undefined && EMULATE_KVM.some(guest)) kvm.emulated = true;
}

function inUnitOrder(findings: Findings, strangers: readonly StrangerRules[]): DetectedInterface[] {
  const row = (id: string): number => {
    const index = INTERFACE_KINDS.findIndex((kind) => kind.id === id);
    return index >= 0 && index < OPENBSD_ROWS ? index : OPENBSD_ROWS;
  };
  const found = [...findings.byId].sort(
    ([idA, a], [idB, b]) =>
      row(idA) - row(idB) || (a.base ?? Infinity) - (b.base ?? Infinity) || (idA < idB ? -1 : 1),
  );
  return found.map(([id, { role, base, emulated, evidence, details }], unit) => ({
    unit,
    name: `pvbus${unit}`,
    id,
    type: strangers.find((each) => each.id === id)?.type ?? typeOfId(id),
    role,
    base: base === undefined ? null : hex(base),
    emulated,
    evidence,
    details,
  }));
}

function choosePrimary(
  interfaces: readonly DetectedInterface[],
  findings: Findings,
  scan: CpuidScan,
): string | null {
  const guests = interfaces.filter(({ role }) => role === "guest");
  const real = guests.filter(({ emulated }) => !emulated).map(({ id }) => id);
  const first = PRIMARY_ORDER.find((id) => real.includes(id)) ?? real[0];
  if (first !== undefined) return first;
  // A set bit that no range explains is somebody's, also under a dom0, whose processor shows the machine below.
  const unexplainedBit =
    scan.hypervisorBit === true &&
    interfaces.every(({ base }) => base === null) &&
    (scan.asked || interfaces.length === 0);
  return guests.length > 0 || findings.unexplained || unexplainedBit ? "unknown" : null;
}

function isNested(
  facts: Facts,
  scan: CpuidScan,
  interfaces: readonly DetectedInterface[],
  primary: string | null,
): boolean {
  const hyperv = scan.ranges.find(({ id, isHypervInterface }) => id === "hyperv" || isHypervInterface);
  const recommendations = hyperv && known(facts.cpuid(hyperv.base + 4));
  if (recommendations !== undefined && (recommendations.eax & HYPERV_NESTED) !== 0) return true;
  const isGuest = primary !== null || interfaces.some(({ role }) => role === "guest");
  if (isGuest && interfaces.some(({ role }) => role === "host")) return true;
  // In a PV domain a plain CPUID shows the machine below: files say Xen, the processor says something else.
  const xen = interfaces.find(({ id }) => id === "xen");
  return (
    xen?.base === null && xen.details["guestType"] === "PV" && interfaces.some(({ base }) => base !== null)
  );
}

function unreadableSources(facts: Facts): Evidence[] {
  const sources: Evidence[] = [];
  const note = (
    source: EvidenceSource,
    fact: ReturnType<Facts["dmi"]> | ReturnType<Facts["cpuid"]>,
  ): void => {
    if (fact.kind === "unreadable") sources.push({ source, detail: printable(fact.why) });
  };
  note("cpuid", facts.cpuid(1));
  note("dmi", facts.dmi("sys_vendor"));
  note("acpi", facts.fadtHypervisorId());
  return sources;
}
