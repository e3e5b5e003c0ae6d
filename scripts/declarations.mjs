// The declarations of the library: those that tsc made and an export of the package leads to.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const MADE = "dist";
const SHIPPED = "dist/lib/types";
const IMPORTED = /\b(?:from|import)\s*\(?\s*"(\.[^"]+)\.js"/g;

/** Copies declarations and what they import. @param entries paths as in the exports of the package */
export function copyDeclarations(entries) {
  const wanted = new Set(entries.map((each) => join(each).slice(SHIPPED.length + 1)));
  for (const name of wanted) {
    const text = readFileSync(join(MADE, name), "utf8");
    for (const [, path] of text.matchAll(IMPORTED)) wanted.add(join(dirname(name), `${path}.d.ts`));
    mkdirSync(dirname(join(SHIPPED, name)), { recursive: true });
    writeFileSync(join(SHIPPED, name), text.replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n"));
  }
}
