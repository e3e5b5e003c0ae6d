import { known } from "../base/firmware/fact.js";
import { INTERFACE_KINDS, OPENBSD_ROWS, typeOfId } from "../contract/interfaces.js";
import type { DetectedInterface, DetectionReport, Evidence } from "../contract/report.js";
import { type CpuidScan, judgeCpuid, type ScanOptions, scanCpuid } from "./cpuid.js";
import { findConfidential, findContainer, findPlatform } from "./environment.js";
import { evidenceOf, type Facts, Findings, type Found, hex, printable } from "./facts.js";
import { judgeForeignSystems } from "./foreign-systems.js";
import { withLater } from "./later.js";
import { judgeLinux } from "./linux.js";
import { judgeStrangers, matchDmi, type StrangerRules } from "./rules.js";
import { isSomeMachine, judgeWeakEvidence } from "./weak.js";

/** Interfaces with the hypervisors whose guests have them beside their own. */
const EMULATED = [
  ["hyperv", ["kvm", "xen", "vmware", "virtualbox", "parallels"]],
  ["kvm", ["virtualbox", "parallels", "openbsd"]],
] as const;
const HYPERV_NESTED = 1 << 12;

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
  // Texts that name the virtual machine itself always count.
  const texts = matchDmi(facts);
  for (const { id, strength, source, detail } of texts)
    if (strength === "strong") findings.add(id, source, detail);
  judgeLinux(facts, findings);
  judgeForeignSystems(facts, findings);
  judgeStrangers(facts, scan, findings, options.strangers ?? []);
  judgeWeakEvidence(facts, scan, findings, texts);
  if (findings.byId.size === 0 && isSomeMachine(facts, scan, findings, texts)) findings.unexplained = true;
  const isGuest = (id: string): boolean => findings.byId.get(id)?.role === "guest";
  for (const [id, real] of EMULATED) {
    const found = findings.byId.get(id);
    if (found !== undefined && real.some(isGuest)) found.emulated = true;
  }
  // Xen offers no KVM interface, KVM's users offer Xen's (QEMU's xen-version). What Xen's files say of a PV guest is another thing.
  const [kvm, xen] = [findings.byId.get("kvm"), findings.byId.get("xen")];
  if (isGuest("kvm") && isGuest("xen") && kvm?.base !== undefined && xen?.base !== undefined)
    xen.emulated = true;

  const interfaces = inUnitOrder(findings, options.strangers ?? []);
  const primary = choosePrimary(interfaces, findings, scan);
  const primaryName = interfaces.find(({ id }) => id === primary)?.name ?? null;
  return withLater(
    { virtual: primary !== null, primary, primaryName, interfaces },
    {
      platform: () => findPlatform(facts),
      container: () => findContainer(facts),
      confidential: () => findConfidential(facts, scan),
      nested: () => isNested(facts, scan, interfaces, findings.byId.get("xen"), primary),
      unreadable: () => unreadableSources(facts),
    },
  );
}

function inUnitOrder(findings: Findings, strangers: readonly StrangerRules[]): DetectedInterface[] {
  const row = (id: string): number => {
    const at = OPENBSD_ROWS.indexOf(id);
    return at < 0 ? OPENBSD_ROWS.length : at;
  };
  const found = [...findings.byId].sort(
    ([idA, a], [idB, b]) =>
      row(idA) - row(idB) || (a.base ?? Infinity) - (b.base ?? Infinity) || (idA < idB ? -1 : 1),
  );
  return found.map(([id, each], unit) => {
    const { role, base, emulated } = each;
    return withLater(
      {
        unit,
        name: `pvbus${unit}`,
        id,
        type: strangers.find((rules) => rules.id === id)?.type ?? typeOfId(id),
        role,
        base: base === undefined ? null : hex(base),
        emulated,
      },
      { evidence: () => evidenceOf(each), details: () => detailsOf(each) },
    );
  });
}

function detailsOf({ describe, guestType }: Found): Readonly<Record<string, unknown>> {
  return { ...describe?.(), ...(guestType === undefined ? {} : { guestType }) };
}

function choosePrimary(
  interfaces: readonly DetectedInterface[],
  findings: Findings,
  scan: CpuidScan,
): string | null {
  const guests = interfaces.filter(({ role }) => role === "guest");
  const real = guests.filter(({ emulated }) => !emulated).map(({ id }) => id);
  const first = INTERFACE_KINDS.find(({ id }) => real.includes(id))?.id ?? real[0];
  if (first !== undefined) return first;
  // A set bit that no range explains is somebody's, but for dom0, where Xen may have set it.
  const unexplainedBit =
    scan.hypervisorBit === true &&
    !findings.isControlDomain &&
    interfaces.every(({ base }) => base === null) &&
    (scan.asked || interfaces.length === 0);
  return guests.length > 0 || findings.unexplained || unexplainedBit ? "unknown" : null;
}

function isNested(
  facts: Facts,
  scan: CpuidScan,
  interfaces: readonly DetectedInterface[],
  xen: Found | undefined,
  primary: string | null,
): boolean {
  const hyperv = scan.ranges.find(({ id, isHypervInterface }) => id === "hyperv" || isHypervInterface);
  const recommendations = hyperv && known(facts.cpuid(hyperv.base + 4));
  if (recommendations !== undefined && (recommendations.eax & HYPERV_NESTED) !== 0) return true;
  const isGuest = primary !== null || interfaces.some(({ role }) => role === "guest");
  if (isGuest && interfaces.some(({ role }) => role === "host")) return true;
  // In a PV domain a plain CPUID shows the machine below: files say Xen, the processor says something else.
  return (
    xen !== undefined &&
    xen.base === undefined &&
    xen.guestType === "PV" &&
    interfaces.some(({ base }) => base !== null)
  );
}

function unreadableSources(facts: Facts): Evidence[] {
  const asked = [
    ["cpuid", facts.cpuid(1)],
    ["dmi", facts.dmi("sys_vendor")],
    ["acpi", facts.fadtHypervisorId()],
  ] as const;
  return asked.flatMap(([source, fact]) =>
    fact.kind === "unreadable" ? [{ source, detail: printable(fact.why) }] : [],
  );
}
