import { posix } from "node:path";
import { firmwareText } from "../base/firmware/dmi.js";
import type { DetectionRules, ProviderManifest } from "../contract/manifest.js";
import type { EvidenceSource } from "../contract/report.js";
import type { CpuidScan } from "./cpuid.js";
import { type Facts, type Findings, hex } from "./facts.js";

interface Rule {
  readonly id: string;
  /**
   * `strong` names the virtual machine itself, `model` a machine model that exists nowhere else, `weak` a maker of machine models
   * or a cloud.
   */
  readonly strength: "strong" | "model" | "weak";
  readonly fields: readonly string[];
  readonly prefix: string;
  /** No letter or digit may follow. */
  readonly wholeWord?: boolean;
  /** A second condition on another field. */
  readonly also?: { readonly field: string; readonly prefix: string };
}

/** What firmware text says of the hypervisor. */
export interface DmiMatch extends Pick<Rule, "id" | "strength"> {
  readonly source: EvidenceSource;
  readonly detail: () => string;
}

const NAMES = ["product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"] as const;

/**
 * Texts by prefix. `Microsoft Corporation` alone is a maker of physical machines, and so is `Oracle Corporation`:
 * neither is here by itself. Sources: systemd src/basic/virt.c and the list in docs/detection.md.
 */
const RULES: readonly Rule[] = [
  { id: "virtualbox", strength: "strong", fields: NAMES, prefix: "VirtualBox" },
  { id: "virtualbox", strength: "strong", fields: NAMES, prefix: "innotek GmbH" },
  { id: "parallels", strength: "strong", fields: NAMES, prefix: "Parallels" },
  { id: "vmware", strength: "strong", fields: NAMES, prefix: "VMware" },
  { id: "vmware", strength: "strong", fields: NAMES, prefix: "VMW" },
  { id: "xen", strength: "strong", fields: ["sys_vendor", "bios_vendor"], prefix: "Xen", wholeWord: true },
  { id: "xen", strength: "strong", fields: ["product_name"], prefix: "HVM domU" },
  { id: "bhyve", strength: "strong", fields: NAMES, prefix: "BHYVE" },
  {
    id: "hyperv",
    strength: "strong",
    fields: ["sys_vendor"],
    prefix: "Microsoft Corporation",
    also: { field: "product_name", prefix: "Virtual Machine" },
  },
  {
    id: "openbsd",
    strength: "weak",
    fields: ["sys_vendor"],
    prefix: "OpenBSD",
    also: { field: "product_name", prefix: "VMM" },
  },
  { id: "apple", strength: "strong", fields: NAMES, prefix: "Apple Virtualization" },
  { id: "qemu", strength: "model", fields: ["product_name"], prefix: "Standard PC (i440FX" },
  { id: "qemu", strength: "model", fields: ["product_name"], prefix: "Standard PC (Q35" },
  {
    id: "kvm",
    strength: "model",
    fields: ["sys_vendor"],
    prefix: "Red Hat",
    also: { field: "product_name", prefix: "KVM" },
  },
  {
    id: "kvm",
    strength: "model",
    fields: ["sys_vendor"],
    prefix: "ChromiumOS",
    also: { field: "product_name", prefix: "crosvm" },
  },
  { id: "kvm", strength: "weak", fields: NAMES, prefix: "KVM" },
  { id: "kvm", strength: "weak", fields: NAMES, prefix: "OpenStack" },
  { id: "kvm", strength: "weak", fields: NAMES, prefix: "KubeVirt" },
  { id: "kvm", strength: "weak", fields: NAMES, prefix: "Google Compute Engine" },
  { id: "kvm", strength: "weak", fields: NAMES, prefix: "Amazon EC2" },
  { id: "qemu", strength: "weak", fields: NAMES, prefix: "QEMU" },
  { id: "bochs", strength: "weak", fields: NAMES, prefix: "Bochs" },
];

/** Clouds and management products, by the beginning of the vendor or the product; they have physical servers too. */
const CLOUD_PRODUCTS = [
  "Alibaba Cloud",
  "oVirt",
  "RHEV",
  "Nutanix",
  "Hetzner",
  "Scaleway",
  "Tencent Cloud",
  "DigitalOcean",
  "Yandex",
];

/** Reports whether the firmware names a cloud or a management product, whatever that says of the machine. */
export function namesCloudProduct(facts: Facts): boolean {
  return ["sys_vendor", "product_name"].some((field) => {
    const { text } = firmwareText(facts, field);
    return CLOUD_PRODUCTS.some((name) => text.startsWith(name));
  });
}

/** Returns every rule that the firmware's texts match, the strong ones first. */
export function matchDmi(facts: Facts): readonly DmiMatch[] {
  const texts = new Map(NAMES.map((field) => [field as string, firmwareText(facts, field)]));
  const text = (field: string): string => texts.get(field)?.text ?? "";
  if ([...texts.values()].every(({ text: each }) => each === "")) return [];
  const isEc2Metal = /\.metal(-|$)/.test(text("product_name"));
  const matches: DmiMatch[] = [];
  for (const { id, strength, fields, prefix, wholeWord, also } of RULES) {
    const field = fields.find((each) => begins(text(each), prefix, wholeWord));
    if (field === undefined) continue;
    if (also !== undefined && !text(also.field).startsWith(also.prefix)) continue;
    if (prefix === "Amazon EC2" && isEc2Metal) continue;
    const { source = "dmi", name = field } = texts.get(field) ?? {};
    const detail = (): string =>
      `${name}: ${text(field)}${also === undefined ? "" : `, ${also.field}: ${text(also.field)}`}`;
    matches.push({ id, strength, source, detail });
  }
  return matches;
}

function begins(text: string, prefix: string, wholeWord = false): boolean {
  return text.startsWith(prefix) && !(wholeWord && /^\w/.test(text.slice(prefix.length)));
}

/** What a manifest from outside says of its interface. */
export interface StrangerRules extends Pick<ProviderManifest, "id" | "type"> {
  readonly detection: DetectionRules;
}

/** Finds the interfaces that detection does not know by itself, by the rules of their manifests. */
export function judgeStrangers(
  facts: Facts,
  scan: CpuidScan,
  findings: Findings,
  strangers: readonly StrangerRules[],
): void {
  for (const { id, detection } of strangers) {
    const { signatures = [], firmware = [], paths = [] } = detection;
    for (const { base, signature } of scan.ranges) {
      if (!signatures.includes(signature)) continue;
      const found = findings.add(id, "cpuid", () => `leaf ${hex(base)}: ${signature}`);
      found.base ??= base;
    }
    for (const { field, prefix } of firmware) {
      const { text, source, name } = firmwareText(facts, field);
      if (prefix !== "" && text.startsWith(prefix)) findings.add(id, source, () => `${name}: ${text}`);
    }
    for (const path of paths)
      if (facts.names(posix.dirname(path)).includes(posix.basename(path)))
        findings.add(id, "path", () => `${path} is there`);
  }
}
