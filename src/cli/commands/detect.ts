import { readFileSync } from "node:fs";
import { pvbusError } from "../../base/errors.js";
import type { Bus } from "../../bus/bus.js";
import { NO_CAPABILITIES, type Verbs } from "../../contract/capabilities.js";
import type { Command } from "../../contract/command.js";
import { INTERFACE_KINDS } from "../../contract/interfaces.js";
import type { DetectedInterface } from "../../contract/report.js";
import { type Context, withBus } from "../io/context.js";
import { heading, type Sink, visible } from "../io/output.js";

/** `pvbus detect`: the interfaces, the primary, and the evidence. */
export const detect: Command<Context> = {
  name: "detect",
  args: [],
  description: "which hypervisor interfaces are here, and the evidence",
  options: [
    { name: "snapshot", value: "FILE", description: "decide from a recorded machine" },
    { name: "full-scan", description: "look at all 256 CPUID bases" },
  ],
  load: async () => detectCommand,
};

function detectCommand(
  context: Context,
  _args: readonly string[],
  { snapshot, "full-scan": fullScan }: { readonly snapshot?: string; readonly "full-scan"?: boolean },
): Promise<number> {
  const { stdout, env, json } = context;
  const work = async (bus: Bus): Promise<number> => {
    if (json) context.writeJson(detectionJson(bus));
    else printDetection(stdout, bus, heading(stdout, env));
    return 0;
  };
  const recorded = snapshot === undefined ? {} : { snapshot: load(snapshot) };
  return withBus(context, work, { open: { ...recorded, fullScan } });
}

function load(path: string): unknown {
  const text = readFileSync(path, "utf8");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw pvbusError("ERR_CORRUPT", `${path} is no JSON; make a snapshot with \`pvbus snapshot\``, { cause });
  }
}

/** What detection found, and behind it the stores at their usual places of which it knows nothing. */
function foundOn({ detection, interfaces }: Bus): readonly DetectedInterface[] {
  const located = interfaces.filter(
    ({ id, name, role }) =>
      !detection.interfaces.some((each) => each.name === name) &&
      role === "guest-api" &&
      !INTERFACE_KINDS.some((kind) => kind.id === id),
  );
  return [
    ...detection.interfaces,
    ...located.map(({ unit, name, id, type, role, base, emulated, evidence, details }) => ({
      unit,
      name,
      id,
      type,
      role,
      base,
      emulated,
      evidence,
      details,
    })),
  ];
}

/** Returns what an interface can do, of the verbs alone. */
function verbsOf(bus: Bus, name: string): Verbs {
  const { read, write, delete: remove, list, watch } = bus.interface(name)?.capabilities ?? NO_CAPABILITIES;
  return { read, write, delete: remove, list, watch };
}

/** Returns the document of `pvbus detect --json`. */
export function detectionJson(bus: Bus): Record<string, unknown> {
  const interfaces = foundOn(bus).map((each) => ({ ...each, capabilities: verbsOf(bus, each.name) }));
  return { ...bus.detection, interfaces };
}

/** Prints what detection says, for people. */
export function printDetection(stdout: Sink, bus: Bus, paint: (text: string) => string): void {
  const { detection } = bus;
  const primary = detection.interfaces.find(({ name }) => name === detection.primaryName);
  const verdict = !detection.virtual
    ? "no virtual machine"
    : primary === undefined
      ? "a virtual machine of an unknown hypervisor"
      : `a virtual machine on ${primary.type}`;
  const axes = [
    detection.platform && `platform ${detection.platform}`,
    detection.container && `in container ${visible(detection.container)}`,
    detection.confidential && `confidential (${detection.confidential})`,
    detection.nested && "nested",
  ].filter(Boolean);
  stdout.write(`${paint(`This is ${verdict}`)}${axes.length > 0 ? `; ${axes.join(", ")}` : ""}\n`);
  for (const each of foundOn(bus)) {
    const notes = [each.role, each.emulated ? "emulated" : "", each === primary ? "primary" : ""].filter(
      Boolean,
    );
    stdout.write(`${paint(each.name)} ${each.type} (${notes.join(", ")})\n`);
    for (const { source, detail } of each.evidence) stdout.write(`  ${source}: ${visible(detail)}\n`);
    for (const [name, value] of Object.entries(each.details))
      stdout.write(
        `  ${visible(name)}: ${visible(Array.isArray(value) ? value.join(", ") || "none" : String(value))}\n`,
      );
    const verbs = Object.entries(verbsOf(bus, each.name)).flatMap(([verb, can]) => (can ? [verb] : []));
    stdout.write(`  can: ${verbs.join(", ") || "nothing here (see pvbus doctor)"}\n`);
  }
  for (const { source, detail } of detection.unreadable)
    stdout.write(`not readable: ${source}: ${visible(detail)}\n`);
}
