import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pvbusError } from "../../bus/errors.js";
import type { PvInterface } from "../../bus/interface.js";
import type { StoreChange } from "../../bus/store.js";
import { type Context, UsageError } from "../context.js";
import { heading, writeJson } from "../output.js";
import { detectionJson, printDetection } from "./detect.js";

/** Longest wait for the simulated host's change. */
const WATCH_MS = 10_000;

/** Who does a step of the round trip. */
type Actor = "host" | "guest";
/** Tells one step. */
type Tell = (actor: Actor, text: string) => void;

/** `pvbus demo`: what this machine is, then the whole round trip on an embedded simulator. */
export async function demoCommand(context: Context): Promise<number> {
  const { stdout, options, signal } = context;
  const { type = "Hyper-V", sysroot, json } = options;
  if (!["hyper-v", "hyperv"].includes(type.toLowerCase()))
    throw new UsageError(`there is no simulator for ${type}; there is one for: Hyper-V`);
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
      stdout.write(`\n${paint("Round trip with a simulated Hyper-V host")} (pool files in ${directory})\n`);
    await roundTrip(context, directory, tell);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  if (json === true) writeJson(stdout, { detection: detectionJson(bus), steps });
  return 0;
}

async function roundTrip({ open, signal }: Context, sysroot: string, tell: Tell): Promise<void> {
  const { HypervHostSimulator } = await import("../../testing/hyperv-host.js");
  await using host = await HypervHostSimulator.create({ sysroot });
  await host.setParameters({ VirtualMachineName: "web-01", HostName: "HV-HOST-01" });
  await host.addKvpItems([{ name: "role", data: "web" }]);
  tell("host", 'tells facts about the machine and adds role = "web"');

  await using bus = await open({ sysroot, interfaces: [{ type: "Hyper-V" }], signal });
  const hv = bus.primary as PvInterface;
  for await (const { key, value } of hv.list("", { signal })) tell("guest", `lists ${key} = "${value}"`);
  tell("guest", `reads External/role: "${await hv.read("External/role", { signal })}"`);

  await hv.write("Guest/build", "1.2.3", { signal });
  tell("guest", 'writes Guest/build = "1.2.3"');
  for (const { name, data } of await host.guestItems()) tell("host", `sees ${name} = "${data}"`);

  const { key, value } = await nextChange(hv, signal, () =>
    host.modifyKvpItems([{ name: "role", data: "db" }]),
  );
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes Guest/build: ${await hv.delete("Guest/build", { signal })}`);
  tell("host", `sees ${(await host.guestItems()).length} pairs of the guest`);
}

/** Arms a watch, lets the host change something and gives what the watch saw. */
async function nextChange(
  hv: PvInterface,
  signal: AbortSignal,
  change: () => Promise<void>,
): Promise<StoreChange> {
  let armed: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const next = hv.watch("External", { ready: armed, signal, timeoutMs: WATCH_MS }).next();
  await Promise.race([ready, next]);
  await change();
  const { value: seen } = await next;
  if (seen !== undefined) return seen;
  if (signal.aborted)
    throw pvbusError("ERR_ABORTED", "the demonstration was interrupted", { cause: signal.reason });
  throw pvbusError("ERR_TIMEOUT", "the watch saw nothing of the host's change; report this as a fault");
}
