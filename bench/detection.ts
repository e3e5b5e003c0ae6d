/** Detection in process against its CPUID instructions alone, and against the tools that people start for it. */
import { spawnSync } from "node:child_process";
import { nodeHost } from "../src/base/host/node-host.js";
import { detect } from "../src/detect/detect.js";
import { openCpuid } from "../src/native/cpu/cpuid.js";
import { median, ms, row, time } from "./report.js";

const STARTS = 10;

/** Prints the table. */
export async function benchDetection(): Promise<void> {
  const host = nodeHost();
  const own = await time(() => detect(host));
  console.log("\nDetection on this machine, median ms");
  row("", "ms", "times ours");
  row("pvbus, in process", ms(own), "1.0");
  const cpuid = openCpuid();
  if ("read" in cpuid) {
    const leaves = new Set<number>();
    const { decide } = await import("../src/detect/decide.js");
    const { liveFacts } = await import("../src/detect/live-facts.js");
    let count = 0;
    decide(
      liveFacts(host, {
        read: (leaf) => {
          count++;
          leaves.add(leaf);
          return cpuid.read(leaf);
        },
      }),
    );
    const alone = await time(() => {
      for (const leaf of leaves) cpuid.read(leaf);
    });
    row(`its ${leaves.size} CPUID leaves alone`, ms(alone), (alone / own).toFixed(2));
    row("CPUID executions", String(count));
  }
  for (const [command, ...args] of [["systemd-detect-virt"], ["virt-what"], ["lscpu"]] as const) {
    const took: number[] = [];
    for (let i = 0; i < STARTS; i++) {
      const before = performance.now();
      if (spawnSync(command, args, { stdio: "ignore" }).error !== undefined) break;
      took.push(performance.now() - before);
    }
    if (took.length === 0) row(command, "not installed");
    else row(command, ms(median(took)), (median(took) / own).toFixed(1));
  }
}
