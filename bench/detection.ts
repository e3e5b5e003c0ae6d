/** Detection in process, its steps and its CPUID instructions alone, and the tools that people start for it. */
import { spawnSync } from "node:child_process";
import type { Cpuid } from "../src/base/firmware/cpuid.js";
import type { Host } from "../src/base/host/host.js";
import { nodeHost } from "../src/base/host/node-host.js";
import { decide } from "../src/detect/decide.js";
import { detect, factsOf } from "../src/detect/detect.js";
import type { Facts } from "../src/detect/facts.js";
import { liveFacts } from "../src/detect/live-facts.js";
import { openCpuid } from "../src/native/cpu/cpuid.js";
import { median, ms, row, type Times, times } from "./report.js";

const STARTS = 10;
const ROUNDS = 2_000;

/** Prints the table. */
export async function benchDetection(): Promise<void> {
  const host = nodeHost();
  const ours = await times(() => detect(host));
  console.log("\nDetection on this machine, ms");
  row("", "minimum", "median", "times ours");
  const line = (name: string, { min, median: middle }: Times): void =>
    row(name, ms(min), ms(middle), (middle / ours.median).toPrecision(2));
  line("pvbus, in process", ours);
  for (const [step, took] of await stepsOf(host)) line(`  ${step}`, took);
  line("pvbus, every axis, as JSON", await times(async () => JSON.stringify(await detect(host))));
  const cpuid = openCpuid();
  if ("read" in cpuid) {
    const leaves = leavesOf(host, cpuid);
    const alone = await times(() => {
      for (const leaf of leaves) cpuid.read(leaf);
    });
    line(`its ${leaves.length} CPUID leaves alone`, alone);
  }
  for (const [command, ...args] of [["systemd-detect-virt"], ["virt-what"], ["lscpu"]] as const) {
    const took: number[] = [];
    for (let i = 0; i < STARTS; i++) {
      const before = performance.now();
      if (spawnSync(command, args, { stdio: "ignore" }).error !== undefined) break;
      took.push(performance.now() - before);
    }
    if (took.length === 0) row(`${command}, a process`, "not installed");
    else line(`${command}, a process`, { min: Math.min(...took), median: median(took) });
  }
}

/** Returns the leaves that detection reads for the interfaces, each execution of the instruction once. */
function leavesOf(host: Host, cpuid: Extract<Cpuid, { read: unknown }>): number[] {
  const leaves: number[] = [];
  const read: typeof cpuid.read = (leaf) => {
    leaves.push(leaf);
    return cpuid.read(leaf);
  };
  decide(liveFacts(host, { read }));
  return leaves;
}

/** Steps by the facts that they ask for. */
const STEPS = {
  cpuid: "CPUID and its ranges",
  dmi: "firmware texts",
  names: "names of ACPI devices",
  fadtHypervisorId: "the FADT",
  smbiosVmBit: "SMBIOS",
  file: "files of Xen, VMBus, PCI",
} as const;

/** Measures what the steps of detection take by timing each question, and the decision by what is left. */
async function stepsOf(host: Host): Promise<Map<string, Times>> {
  const taken = new Map<string, number[]>([...Object.values(STEPS), "deciding"].map((step) => [step, []]));
  for (let round = 0; round < ROUNDS; round++) {
    const facts = await factsOf(host);
    const spent = new Map<string, number>();
    const before = performance.now();
    decide(timed(facts, spent));
    const all = performance.now() - before;
    const asked = [...spent.values()].reduce((sum, each) => sum + each, 0);
    for (const [step, list] of taken) list.push(step === "deciding" ? all - asked : (spent.get(step) ?? 0));
  }
  return new Map([...taken].map(([step, list]) => [step, { min: Math.min(...list), median: median(list) }]));
}

function timed(facts: Facts, spent: Map<string, number>): Facts {
  const wrapped: Record<string, unknown> = { ...facts };
  for (const [name, step] of Object.entries(STEPS)) {
    const ask = facts[name as keyof typeof STEPS] as (of?: unknown) => unknown;
    wrapped[name] = (of?: unknown): unknown => {
      const before = performance.now();
      const answer = ask(of);
      spent.set(step, (spent.get(step) ?? 0) + performance.now() - before);
      return answer;
    };
  }
  return wrapped as unknown as Facts;
}
