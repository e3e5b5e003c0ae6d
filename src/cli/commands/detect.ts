import { readFileSync } from "node:fs";
import { pvbusError } from "../../base/errors.js";
import type { Bus } from "../../bus/bus.js";
import type { Verbs } from "../../contract/capabilities.js";
import { NO_CAPABILITIES } from "../../contract/capabilities.js";
import type { Context } from "../io/context.js";
import { withBus } from "../io/context.js";
import { heading, type Sink, visible, writeJson } from "../io/output.js";

/** Options of `pvbus detect`. */
export interface DetectOptions {
  /** File of a recorded machine. */
  readonly snapshot?: string;
  /** Look at all CPUID bases. */
  readonly "full-scan"?: boolean;
}

/** `pvbus detect`: the interfaces, the primary, and the evidence. */
export async function detectCommand(context: Context, own: DetectOptions): Promise<number> {
  const { snapshot, "full-scan": fullScan } = own;
  const recorded = snapshot === undefined ? {} : { snapshot: load(snapshot) };
  const detecting: Context = {
    ...context,
    open: (options) => context.open({ ...options, ...recorded, fullScan }),
  };
  return withBus(detecting, async (bus) => {
    if (context.options.json === true) writeJson(context.stdout, detectionJson(bus));
    else printDetection(context.stdout, bus, heading(context.stdout, context.env));
    return 0;
  });
}

function load(path: string): unknown {
  const text = readFileSync(path, "utf8");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw pvbusError("ERR_CORRUPT", `${path} is no JSON; make a snapshot with \`pvbus snapshot\``, { cause });
  }
}

/** Returns the document of `pvbus detect --json`. */
export function detectionJson(bus: Bus): Record<string, unknown> {
  const { interfaces, unreadable, ...rest } = bus.detection;
  return {
    virtual: rest.virtual,
    primary: rest.primary,
    primaryName: rest.primaryName,
    interfaces: interfaces.map((detected) => {
      const {
        read,
        write,
        delete: remove,
        list,
        watch,
      }: Verbs = bus.interface(detected.name)?.capabilities ?? NO_CAPABILITIES;
      return { ...detected, capabilities: { read, write, delete: remove, list, watch } };
    }),
    platform: rest.platform,
    container: rest.container,
    confidential: rest.confidential,
    nested: rest.nested,
    unreadable,
  };
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
  for (const each of detection.interfaces) {
    const notes = [each.role, each.emulated ? "emulated" : "", each === primary ? "primary" : ""].filter(
      Boolean,
    );
    stdout.write(`${paint(each.name)} ${each.type} (${notes.join(", ")})\n`);
    for (const { source, detail } of each.evidence) stdout.write(`  ${source}: ${visible(detail)}\n`);
    for (const [name, value] of Object.entries(each.details))
      stdout.write(
        `  ${visible(name)}: ${visible(Array.isArray(value) ? value.join(", ") || "none" : String(value))}\n`,
      );
    const { capabilities } = bus.interface(each.name) ?? { capabilities: NO_CAPABILITIES };
    const verbs = (["read", "write", "delete", "list", "watch"] as const).filter(
      (verb) => capabilities[verb],
    );
    stdout.write(`  can: ${verbs.join(", ") || "nothing here (see pvbus doctor)"}\n`);
  }
  for (const { source, detail } of detection.unreadable)
    stdout.write(`not readable: ${source}: ${visible(detail)}\n`);
}
