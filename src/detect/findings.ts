import type { Evidence, EvidenceSource } from "../contract/report.js";

/** What was found of one interface so far. */
export interface Found {
  role: "guest" | "host";
  base: number | undefined;
  emulated: boolean;
  readonly evidence: Evidence[];
  details: Readonly<Record<string, unknown>>;
}

/** Collects what speaks for each interface. */
export class Findings {
  readonly byId = new Map<string, Found>();
  /** A hypervisor is there, whatever its name. */
  unexplained = false;
  /** Things that only virtual machines have, without a name; they count where nothing has one. */
  readonly hints: string[] = [];

  add(id: string, source: EvidenceSource, detail: string): Found {
    let found = this.byId.get(id);
    if (found === undefined) {
      found = { role: "guest", base: undefined, emulated: false, evidence: [], details: {} };
      this.byId.set(id, found);
    }
    found.evidence.push({ source, detail: printable(detail) });
    return found;
  }
}

/** Facts are untrusted text: what could steer a terminal is shown escaped. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
