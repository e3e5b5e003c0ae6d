import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Context, UsageError } from "../io/context.js";
import { heading, writeJson } from "../io/output.js";
import type { Actor, RoundTrip, Tell } from "./demo/steps.js";
import { detectionJson, printDetection } from "./detect.js";

/** The simulated hosts; the first one is the default. */
const HOSTS: readonly { id: string; type: string; place: string; load: () => Promise<RoundTrip> }[] = [
  {
    id: "hyperv",
    type: "Hyper-V",
    place: "pool files",
    load: async () => (await import("../../../providers/hyperv/testing/demo.js")).hypervRoundTrip,
  },
  {
    id: "kvm",
    type: "KVM",
    place: "a metadata socket",
    load: async () => (await import("../../../providers/kvm/testing/demo.js")).kvmRoundTrip,
  },
  {
    id: "xen",
    type: "Xen",
    place: "a daemon's socket",
    load: async () => (await import("../../../providers/xen/testing/demo.js")).xenRoundTrip,
  },
  {
    id: "vmware",
    type: "VMware",
    place: "a guest RPC socket",
    load: async () => (await import("../../../providers/vmware/testing/demo.js")).vmwareRoundTrip,
  },
];

/** `pvbus demo`: what this machine is, then the whole round trip on an embedded simulator. */
export async function demoCommand(context: Context): Promise<number> {
  const { stdout, options, signal } = context;
  const { type = "Hyper-V", sysroot, json } = options;
  const wanted = type.toLowerCase();
  const host = HOSTS.find((each) => each.id === wanted || each.type.toLowerCase() === wanted);
  if (host === undefined) {
    const known = HOSTS.map((each) => each.type).join(", ");
    throw new UsageError(`there is no simulator for ${type}; there is one for: ${known}`);
  }
  const paint = heading(stdout, context.env);
  const bus = await context.open({ sysroot, signal });
  await bus.close();
  if (json !== true) printDetection(stdout, bus, paint);

  const steps: { actor: Actor; text: string }[] = [];
  const tell: Tell = (actor, text) => {
    if (json === true) steps.push({ actor, text });
    else stdout.write(`  ${`${actor}:`.padEnd(6)} ${text}\n`);
  };
  const directory = mkdtempSync(join(tmpdir(), "pvbus-demo-"));
  try {
    if (json !== true)
      stdout.write(
        `\n${paint(`Round trip with a simulated ${host.type} host`)} (${host.place} in ${directory})\n`,
      );
    await (await host.load())(context, directory, tell);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  if (json === true) writeJson(stdout, { detection: detectionJson(bus), steps });
  return 0;
}
