import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pvbusError } from "../../base/errors.js";
import type { Bus } from "../../bus/bus.js";
import type { PvInterface } from "../../bus/interface/interface.js";
import type { Command } from "../../contract/command.js";
import type { DemoActor, DemoRun } from "../../contract/demo.js";
import type { KeyInterface } from "../../contract/key-values.js";
import type { ProviderManifest } from "../../contract/manifest.js";
import type { StoreChange } from "../../contract/store.js";
import { UsageError } from "../grammar/usage.js";
import type { Context, Outside } from "../io/context.js";
import { heading } from "../io/output.js";
import { detectionJson, printDetection } from "./detect.js";

/** Longest wait for the simulated host's change. */
const WATCH_MS = 10_000;

/** `pvbus demo`: what this machine is, then the whole round trip on an embedded simulator. */
export const demo: Command<Context> = {
  name: "demo",
  args: [],
  description: "the whole round trip on an embedded simulator",
  interruptible: true,
  load: async () => demoCommand,
};

async function demoCommand(context: Context): Promise<number> {
  const { stdout, options, signal, json, vocabulary } = context;
  const { type, sysroot } = options;
  const able = vocabulary.manifests.filter((each) => each.demo !== undefined);
  const wanted = type?.toLowerCase();
  const manifest = able.find(
    (each) => wanted === undefined || each.id === wanted || each.type.toLowerCase() === wanted,
  );
  if (manifest === undefined) {
    const known = able.map((each) => each.type).join(", ");
    throw new UsageError(`there is no simulator for ${type}; there is one for: ${known}`);
  }
  const paint = heading(stdout, context.env);
  const bus = await context.open({ sysroot, signal });
  await bus.close();
  if (!json) printDetection(stdout, bus, paint);

  const steps: { actor: DemoActor; text: string }[] = [];
  const tell: DemoRun["tell"] = (actor, text) => {
    if (json) steps.push({ actor, text });
    else stdout.write(`  ${`${actor}:`.padEnd(6)} ${text}\n`);
  };
  const directory = mkdtempSync(join(tmpdir(), "pvbus-demo-"));
  try {
    if (!json)
      stdout.write(
        `\n${paint(`Round trip with a simulated ${manifest.type} host`)} (${manifest.demo?.through} in ${directory})\n`,
      );
    await roundTrip(context, manifest, directory, tell);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  if (json) context.writeJson({ detection: detectionJson(bus), steps });
  return 0;
}

/** Does the round trip of a manifest's demonstration in a directory of its own. */
export async function roundTrip(
  { open, signal }: Pick<Outside, "open"> & { readonly signal: AbortSignal },
  { type, demo: shown }: ProviderManifest,
  directory: string,
  tell: DemoRun["tell"],
): Promise<void> {
  const opened: Bus[] = [];
  try {
    await (await shown?.load())?.({
      directory,
      signal,
      tell,
      open: async ({ sysroot, ...target }) => {
        const bus = await open({ sysroot, interfaces: [{ type, ...target }], detect: false, signal });
        opened.push(bus);
        return bus.primary as PvInterface;
      },
      change: (store, prefix, change) => nextChange(store, prefix, signal, change),
    });
  } finally {
    for (const bus of opened) await bus.close();
  }
}

/** Arms a watch, lets the host change something and resolves with what the watch saw. */
async function nextChange(
  store: KeyInterface,
  prefix: string,
  signal: AbortSignal,
  change: () => Promise<void> | void,
): Promise<StoreChange> {
  let armed: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    armed = resolve;
  });
  const watch = store.watch(prefix, { ready: armed, signal, timeoutMs: WATCH_MS });
  const next = watch.next();
  await Promise.race([ready, next]);
  await change();
  const { value: seen } = await next;
  await watch.return(undefined);
  if (seen !== undefined) return seen;
  if (signal.aborted)
    throw pvbusError("ERR_ABORTED", "the demonstration was interrupted", { cause: signal.reason });
  throw pvbusError("ERR_TIMEOUT", "the watch saw nothing of the host's change; report this as a fault");
}
