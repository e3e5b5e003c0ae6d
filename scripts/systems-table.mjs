// Prints the table of README.md that says which verbs can work on which operating system, as the manifests have it.
//
//   node scripts/systems-table.mjs
import { pathToFileURL } from "node:url";

const SYSTEMS = {
  linux: "Linux",
  freebsd: "FreeBSD",
  openbsd: "OpenBSD",
  netbsd: "NetBSD",
  win32: "Windows",
};
const VERBS = ["read", "write", "delete", "list", "watch"];

/** Returns the table of these manifests, in Markdown. */
export function systemsTable(manifests) {
  const rows = manifests.map(({ type, systems }) => [
    type,
    ...Object.keys(SYSTEMS).map((system) => {
      const verbs = VERBS.filter((verb) => systems[verb].includes(system));
      return verbs.length === VERBS.length ? "all" : verbs.join(", ") || "–";
    }),
  ]);
  const all = [["interface", ...Object.values(SYSTEMS)], ...rows];
  const widths = all[0].map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(" | ")} |`;
  const [head, ...body] = all.map(line);
  return [head, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...body].join("\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { BUILT_IN } = await import("../dist/src/composition.js");
  process.stdout.write(`${systemsTable(BUILT_IN)}\n`);
}
