/**
 * `npm run bench:vmware`: traps and time of guestinfo reads, beside VMware's own vmware-rpctool in the same run. Exit code 1
 * when ours need more traps than the tool, or fewer than 20 times less time than a start of it.
 */
import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { VmxHost } from "../providers/testing.js";
import { infoGet } from "../providers/vmware/protocol/rpci.js";
import { UnixSource } from "../providers/vmware/transport/sources.js";
import { StreamTransport } from "../providers/vmware/transport/stream.js";
import { Call } from "../src/index.js";
import { openVmTools } from "../test/support/open-vm-tools.js";
import type { TrapReport } from "../test/support/trap-host/main.js";
import type { OwnOutcome, OwnStep } from "../test/support/trap-host/ours.js";
import { underVmware, whyNoTrapHost } from "../test/support/trap-host/trap-host.js";
import { backdoorStore, SimulatedVmx } from "../test/support/vmware.js";
import { median, ms, row, time } from "./report.js";

const ROOT = resolve(dirnameOf(import.meta.url), "../..");
const OURS = join(ROOT, "dist/test/support/trap-host/ours.js");
const SIZES = [10, 1024, 64 * 1024, 1024 * 1024] as const;
const KEY = "guestinfo.k";
const GET: OwnStep = { verb: "get", key: KEY };
const ROUNDS = 50;
const WANTED_RATIO = 20;

let failed = false;

function dirnameOf(url: string): string {
  return fileURLToPath(new URL(".", url));
}

function check(holds: boolean, what: string): void {
  if (holds) return;
  failed = true;
  console.log(`  FAILED: ${what}`);
}

function sizeName(size: number): string {
  return size < 1024 ? `${size} B` : size < 1024 * 1024 ? `${size / 1024} KiB` : `${size / 1024 / 1024} MiB`;
}

const perTrap = (bytes: number, traps: number): string => (bytes / traps).toFixed(1);

/** Ours on the machine at register level; the tool's operations there are seven and two looks for the version. */
async function onSimulator(): Promise<void> {
  console.log("\nOn the simulator: traps per get (bytes per trap)");
  row("", "first", "following");
  for (const highBandwidth of [true, false]) {
    for (const size of SIZES) {
      const host = new VmxHost({ variables: { [KEY]: "x".repeat(size) } });
      const { store, machine } = backdoorStore(host, { highBandwidth });
      const counts: string[] = [];
      for (let round = 0; round < 2; round++) {
        const before = machine.traps.length;
        await store.read(KEY, new Call());
        const traps = machine.traps.slice(before);
        counts.push(
          `${traps.length} (${perTrap(
            traps.reduce((sum, { bytes }) => sum + bytes, 0),
            traps.length,
          )})`,
        );
      }
      await store.close();
      row(`${sizeName(size)}, ${highBandwidth ? "high" : "low"} bandwidth`, ...counts);
    }
  }
}

async function underTrapHost(rpctool: string, env: NodeJS.ProcessEnv): Promise<void> {
  console.log("\nUnder the trap host: traps per get (bytes per trap)");
  row("", "vmware-rpctool", "ours: first", "following", "ratio");
  const shownAs = ({ traps, bytes }: Pick<TrapReport, "traps" | "bytes">): string =>
    `${traps} (${perTrap(bytes, traps)})`;
  for (const highBandwidth of [true, false]) {
    for (const size of SIZES) {
      const spec = { highBandwidth, variables: { [KEY]: "x".repeat(size) } };
      const vendor = (await underVmware([rpctool, `info-get ${KEY}`], { ...spec, env })).report;
      const one = (await underVmware([process.execPath, OURS, JSON.stringify([GET])], spec)).report;
      const two = (await underVmware([process.execPath, OURS, JSON.stringify([GET, GET])], spec)).report;
      const following = { traps: two.traps - one.traps, bytes: two.bytes - one.bytes };
      const name = `${sizeName(size)}, ${highBandwidth ? "high" : "low"} bandwidth`;
      row(
        name,
        shownAs(vendor),
        shownAs(one),
        shownAs(following),
        (vendor.traps / following.traps).toFixed(2),
      );
      check(one.traps <= vendor.traps && following.traps < vendor.traps, `${name}: more traps than the tool`);
    }
  }
  await wallTimeUnderTrapHost(rpctool, env);
}

/** Each trap costs a round of the tracer, tens of times what a hypervisor takes: so this is told, not judged. */
async function wallTimeUnderTrapHost(rpctool: string, env: NodeJS.ProcessEnv): Promise<void> {
  const words = 64 * 1024;
  const long = { highBandwidth: false, variables: { [KEY]: "x".repeat(words) }, env };
  const { milliseconds, traps } = (await underVmware([rpctool, `info-get ${KEY}`], long)).report;
  const variables = { [KEY]: "x".repeat(10) };
  const loop = `i=0; while [ $i -lt ${ROUNDS} ]; do "$0" "info-get ${KEY}" >/dev/null; i=$((i+1)); done`;
  const all = await underVmware(["/bin/sh", "-c", loop, rpctool], { variables, env });
  const run = await underVmware([process.execPath, OURS, JSON.stringify(Array(ROUNDS).fill(GET))], {
    variables,
  });
  const times = (JSON.parse(run.stdout) as OwnOutcome[]).map((outcome) => outcome.milliseconds);
  const [tool, own] = [all.report.milliseconds / ROUNDS, median(times.slice(1))];
  console.log("\nUnder the trap host: wall time per get, 10 B");
  row("", "tool, ms", "ours, ms", "times faster");
  row("a start of vmware-rpctool", ms(tool), ms(own), (tool / own).toFixed(1));
  console.log(
    `  a trap costs ${ms(milliseconds / traps)} ms here: the tool has 9 of them and 10 CPUIDs, ours has 5`,
  );
}

/** Nothing is traced here: the tool ends at its look for VMware, before it sends anything, so its figure is the least. */
async function untraced(rpctool: string, env: NodeJS.ProcessEnv): Promise<void> {
  console.log("\nUntraced: wall time per get, 10 B; the tool ends before it sends anything");
  const starts: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = performance.now();
    spawnSync(rpctool, [`info-get ${KEY}`], { stdio: "ignore", env });
    starts.push(performance.now() - before);
  }
  const host = new VmxHost({ variables: { [KEY]: "x".repeat(10) } });
  const { store } = backdoorStore(host);
  report("on the simulated backdoor", median(starts), await time(() => store.read(KEY, new Call())));
  await store.close();
  await using vmx = await SimulatedVmx.start(host);
  const stream = new StreamTransport(new UnixSource(vmx.channel, vmx.path));
  const request = infoGet(KEY).bytes;
  const kept = await time(() => stream.exchange(request, new Call()));
  const connecting = await time(async () => {
    const once = new StreamTransport(new UnixSource(vmx.channel, vmx.path));
    await once.exchange(request, new Call());
    await once.close();
  });
  await stream.close();
  row("on a kept connection", ms(median(starts)), ms(kept), (median(starts) / kept).toFixed(1));
  row(
    "with a new connection each",
    ms(median(starts)),
    ms(connecting),
    (median(starts) / connecting).toFixed(1),
  );
}

function report(name: string, theirs: number, own: number): void {
  row("", "tool, ms", "ours, ms", "times faster");
  row(name, ms(theirs), ms(own), (theirs / own).toFixed(1));
  check(theirs / own >= WANTED_RATIO, `${name}: less than ${WANTED_RATIO} times faster`);
}

console.log(`Node ${process.version}, ${process.platform} ${process.arch}`);
await onSimulator();
const tools = openVmTools();
const why = "why" in tools ? tools.why : whyNoTrapHost();
if (why !== undefined || "why" in tools) console.log(`\nNothing to compare with: ${why}`);
else {
  const rpctool = tools.program("vmware-rpctool");
  await untraced(rpctool, tools.env);
  await underTrapHost(rpctool, tools.env);
}
process.exitCode = failed ? 1 : 0;
