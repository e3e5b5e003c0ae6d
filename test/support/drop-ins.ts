import { readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Returns the drop-ins that docs/kvm-host.md shows for pvbus-host.service, by their names.
 * @param root of the repository or of the package
 */
export function serviceDropIns(root: string): Readonly<Record<string, string>> {
  const text = readFileSync(join(root, "docs/kvm-host.md"), "utf8");
  const blocks = text.matchAll(/^```ini\n# pvbus-host\.service\.d\/(\S+)\.conf\n([^`]*)^```$/gm);
  return Object.fromEntries([...blocks].map(([, name = "", body = ""]) => [name, body]));
}
