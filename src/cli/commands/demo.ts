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
/** What a round trip is told with. */
export interface DemoStage {
  /** Says what begins, and where. */
  readonly title: (text: string, where?: string) => void;
  /** Tells one step. */
  readonly tell: (actor: Actor, text: string) => void;
  /** Arms a watch, lets the host change something and gives what the watch saw. */
  readonly nextChange: (
    guest: PvInterface,
    prefix: string,
    change: () => Promise<void>,
  ) => Promise<StoreChange>;
}

/** `pvbus demo`: what this machine is, then the whole round trip on an embedded simulator. */
export async function demoCommand(context: Context): Promise<number> {
  const { stdout, options, signal } = context;
  const { type = "Hyper-V", sysroot, json } = options;
  const play = PLAYS.find(({ id, name }) => [id, name.toLowerCase()].includes(type.toLowerCase()));
  if (play === undefined) {
    const known = PLAYS.map(({ name }) => name).join(", ");
    throw new UsageError(`there is no simulator for ${type}; there is one for: ${known}`);
  }
  const paint = heading(stdout, context.env);
  const bus = await context.open({ sysroot, signal });
  await bus.close();
  if (json !== true) printDetection(stdout, bus, paint);

  const steps: { actor: Actor; text: string }[] = [];
  const tell: DemoStage["tell"] = (actor, text) => {
    if (json === true) steps.push({ actor, text });
    else stdout.write(`  ${`${actor}:`.padEnd(6)} ${text}\n`);
  };
  const title = (text: string, where = ""): void => {
    if (json !== true) stdout.write(`\n${paint(text)}${where}\n`);
  };
  await play.run(context, {
    title,
    tell,
    nextChange: (guest, prefix, change) => nextChange(guest, prefix, signal, change),
  });
  if (json === true) writeJson(stdout, { detection: detectionJson(bus), steps });
  return 0;
}

/** Every simulator's round trip. */
const PLAYS: readonly {
  readonly id: string;
  readonly name: string;
  readonly run: (context: Context, stage: DemoStage) => Promise<void>;
}[] = [
  { id: "hyperv", name: "Hyper-V", run: hypervRoundTrip },
  {
    id: "xen",
    name: "Xen",
    run: async (context, stage) => {
      stage.title("Round trip with a simulated XenStore daemon");
      await (await import("./demo-xen.js")).xenRoundTrip(context, stage);
    },
  },
];

async function hypervRoundTrip(context: Context, stage: DemoStage): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "pvbus-demo-"));
  try {
    stage.title("Round trip with a simulated Hyper-V host", ` (pool files in ${directory})`);
    await roundTrip(context, directory, stage);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function roundTrip(
  { open, signal }: Context,
  sysroot: string,
  { tell, nextChange }: DemoStage,
): Promise<void> {
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

  const { key, value } = await nextChange(hv, "External", () =>
    host.modifyKvpItems([{ name: "role", data: "db" }]),
  );
  tell("guest", `its watch sees ${key} become "${value}"`);

  tell("guest", `deletes Guest/build: ${await hv.delete("Guest/build", { signal })}`);
  tell("host", `sees ${(await host.guestItems()).length} pairs of the guest`);
}

/** Arms a watch, lets the host change something and gives what the watch saw. */
async function nextChange(
  guest: PvInterface,
  prefix: string,
  signal: AbortSignal,
  change: () => Promise<void>,
): Promise<StoreChange> {
  let armed: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const next = guest.watch(prefix, { ready: armed, signal, timeoutMs: WATCH_MS }).next();
  await Promise.race([ready, next]);
  await change();
  const { value: seen } = await next;
  if (seen !== undefined) return seen;
  if (signal.aborted)
    throw pvbusError("ERR_ABORTED", "the demonstration was interrupted", { cause: signal.reason });
  throw pvbusError("ERR_TIMEOUT", "the watch saw nothing of the host's change; report this as a fault");
}
