import { posix } from "node:path";
import { firmwareText } from "../base/firmware/dmi.js";
import type { DetectionRules } from "../contract/manifest.js";
import type { CpuidScan } from "./cpuid-scan.js";
import type { Facts } from "./facts.js";
import type { Findings } from "./findings.js";

/** What a manifest from outside says of its interface. */
export interface StrangerRules {
  /** Its id. */
  readonly id: string;
  /** Its type string. */
  readonly type: string;
  /** What shows it. */
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
      const found = findings.add(id, "cpuid", `leaf 0x${base.toString(16).padStart(8, "0")}: ${signature}`);
      found.base ??= base;
    }
    for (const { field, prefix } of firmware) {
      const { text, source, name } = firmwareText(facts, field);
      if (prefix !== "" && text.startsWith(prefix)) findings.add(id, source, `${name}: ${text}`);
    }
    for (const path of paths)
      if (facts.names(posix.dirname(path)).includes(posix.basename(path)))
        findings.add(id, "path", `${path} is there`);
  }
}
