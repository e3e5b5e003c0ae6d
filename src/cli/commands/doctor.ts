import type { PvInterface } from "../../bus/interface/interface.js";
import type { Command } from "../../contract/command.js";
import type { Diagnosis } from "../../contract/diagnosis.js";
import { type Context, chooseInterface, withBus } from "../io/context.js";
import { heading, visible, writeJson } from "../io/output.js";

/** `pvbus doctor`: per interface what works, what does not, why, and the command that fixes it; exit 1 if anything fails. */
export const doctor: Command<Context> = {
  name: "doctor",
  args: [],
  description: "what works, what does not, why, and what fixes it",
  load: async () => doctorCommand,
};

function doctorCommand(context: Context): Promise<number> {
  return withBus(context, async (bus) => {
    const { stdout, options, env } = context;
    const chosen = options.interface === undefined ? bus.interfaces : [chooseInterface(bus, options)];
    const reports = await Promise.all(chosen.map(async (each) => ({ each, checks: await checksOf(each) })));
    const healthy = reports.every(({ checks }) => checks.every(({ works }) => works));
    if (options.json === true) {
      const interfaces = reports.map(({ each, checks }) => ({ name: each.name, type: each.type, checks }));
      const { sysroot = null, sysrootFromEnvironment = false } = options;
      writeJson(stdout, {
        healthy,
        interfaces,
        unreadable: bus.detection.unreadable,
        sysroot,
        sysrootFromEnvironment,
      });
      return healthy ? 0 : 1;
    }
    const paint = heading(stdout, env);
    if (options.sysroot !== undefined) {
      const whence = options.sysrootFromEnvironment === true ? ", from PVBUS_SYSROOT" : "";
      stdout.write(`of the files below ${visible(options.sysroot)}${whence}, not of this machine\n`);
    }
    if (reports.length === 0) stdout.write("no hypervisor interface here; nothing to fix\n");
    for (const { each, checks } of reports) {
      stdout.write(`${paint(each.name)} ${each.type}${each.primary ? " (primary)" : ""}\n`);
      for (const { what, works, why, fix } of checks) {
        stdout.write(
          `  ${works ? "ok  " : "FAIL"} ${visible(what)}${why === undefined ? "" : ` (${visible(why)})`}\n`,
        );
        const [first, ...more] = fix === undefined ? [] : fix.split("\n").map(visible);
        if (first !== undefined) stdout.write(`       fix: ${first}\n`);
        for (const line of more) stdout.write(`       ${line}\n`);
      }
    }
    for (const { source, detail } of bus.detection.unreadable)
      stdout.write(`not readable: ${source}: ${visible(detail)}\n`);
    return healthy ? 0 : 1;
  });
}

async function checksOf(target: PvInterface): Promise<readonly Diagnosis[]> {
  const checks = await target.diagnose();
  if (checks !== undefined) return checks;
  const why = target.emulated
    ? "it is emulated by another hypervisor; use the primary"
    : "no provider serves this type yet";
  return [{ what: "its store can be opened", works: target.emulated, why }];
}
