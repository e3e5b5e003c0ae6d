/** `npm run lab`: boots real machines, runs the packed package's tests in them, and prints a table. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { installedPackage } from "./app.js";
import type { Environment, Lab } from "./environment.js";
import { devices } from "./environments/devices.js";
import { guest } from "./environments/guest.js";
import { systemd } from "./environments/systemd.js";
import { virtualbox } from "./environments/virtualbox.js";
import { wine } from "./environments/wine.js";
import { xen } from "./environments/xen.js";
import { guestKernel } from "./kernel.js";
import type { MachineOutcome } from "./machine.js";
import { ROOT, run } from "./tools.js";

const ENVIRONMENTS: readonly Environment[] = [guest, devices, virtualbox, systemd, xen, wine];

interface Row {
  readonly environment: Environment;
  readonly outcome: MachineOutcome;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { all: { type: "boolean" }, record: { type: "boolean" }, list: { type: "boolean" } },
});
const unknown = positionals.filter((name) => !ENVIRONMENTS.some((each) => each.name === name));
if (unknown.length > 0) {
  console.error(
    `no such environment: ${unknown.join(", ")}; there are: ${ENVIRONMENTS.map(({ name }) => name).join(", ")}`,
  );
  process.exit(2);
}
const chosen = ENVIRONMENTS.filter(({ name, inCi }) =>
  positionals.length > 0 ? positionals.includes(name) : inCi || values.all === true,
);
if (values.list === true) {
  for (const { name, title, inCi } of ENVIRONMENTS)
    console.log(`${name.padEnd(10)} ${title}${inCi ? "" : " (--all)"}`);
  process.exit(0);
}

const lab: Lab = { kernel: guestKernel(), app: installedPackage() };
const rows: Row[] = [];
for (const environment of chosen) {
  console.log(`\n${environment.name}: ${environment.title}`);
  const outcome = await environment.run(lab).catch((error: Error): MachineOutcome => {
    return { tests: [], failure: error.message, facts: {}, seconds: 0, log: "" };
  });
  for (const { event, title, why } of outcome.tests)
    console.log(`  ${event.padEnd(7)} ${title}${why === undefined ? "" : `\n${why.replace(/^/gm, "    ")}`}`);
  if (outcome.failure !== undefined) {
    console.log(`  FAILED  ${outcome.failure}; what the machine printed last (${outcome.log}):`);
    if (outcome.log !== "") console.log(tail(outcome.log));
  }
  rows.push({ environment, outcome });
}
console.log(`\n${table(rows)}`);
const [passed, failed, skipped] = sums(rows);
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
if (values.record === true) record(rows);
process.exitCode = rows.length > 0 && rows.every(isGreen) ? 0 : 1;

function isGreen({ outcome: { failure, tests } }: Row): boolean {
  return failure === undefined && tests.every(({ event }) => event !== "fail");
}

function tail(path: string): string {
  return readFileSync(path, "utf8").split(/\r?\n/).slice(-40).join("\n").replace(/^/gm, "    | ");
}

/** Passed, failed and skipped tests of a machine; one that failed as a whole is a failure more. */
function counts({ tests, failure }: MachineOutcome): readonly [number, number, number] {
  const of = (wanted: string): number => tests.filter(({ event }) => event === wanted).length;
  return [of("pass"), of("fail") + (failure === undefined ? 0 : 1), of("pending")];
}

function sums(all: readonly Row[]): readonly number[] {
  const columns = all.map(({ outcome }) => counts(outcome));
  return [0, 1, 2].map((at) => columns.reduce((sum, each) => sum + (each[at] ?? 0), 0));
}

function table(all: readonly Row[]): string {
  const lines = all.map(({ environment, outcome }) => [
    environment.title,
    outcome.facts["kernel"] ?? "?",
    environment.real,
    ...counts(outcome).map(String),
    `${outcome.seconds.toFixed(0)} s`,
  ]);
  const heads = ["environment", "kernel", "what is real", "passed", "failed", "skipped", "time"];
  const widths = heads.map((head, at) =>
    Math.max(head.length, ...lines.map((line) => line[at]?.length ?? 0)),
  );
  const row = (cells: readonly string[]): string =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  const skipped = all.flatMap(({ environment, outcome }) =>
    outcome.tests
      .filter(({ event }) => event === "pending")
      .map(({ title }) => `- skipped in "${environment.title}": ${title}`),
  );
  const rows = [row(heads), row(widths.map((width) => "-".repeat(width))), ...lines.map(row)];
  return [...rows, ...(skipped.length > 0 ? ["", ...skipped] : [])].join("\n");
}

/** Writes docs/tested-on.md. */
function record(all: readonly Row[]): void {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  const qemu = run("qemu-system-x86_64", ["--version"]).split("\n", 1)[0] ?? "";
  const text = [
    "# Tested on",
    "",
    "Written by `npm run lab -- --all --record`; do not edit.",
    "",
    `pvbus ${version}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}, ${qemu}, software emulation.`,
    "",
    table(all),
    "",
  ];
  writeFileSync(join(ROOT, "docs/tested-on.md"), text.join("\n"));
}
