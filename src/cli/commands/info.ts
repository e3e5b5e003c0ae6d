import type { PvInterface } from "../../bus/interface/interface.js";
import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { visible, writeJson } from "../io/output.js";
import { TRUST_HOST, trustOf } from "../io/trust.js";

/** `pvbus info`: what the host tells about this machine, in the same words on every hypervisor. */
export const info: Command<Context> = {
  name: "info",
  args: [],
  description: "what the host tells about this machine",
  options: [TRUST_HOST],
  load: async () => infoCommand,
};

async function infoCommand(
  context: Context,
  _args: readonly string[],
  own: Readonly<Record<string, unknown>>,
): Promise<number> {
  const { checkTrust } = await import("../../tools/trust.js");
  const work = async (target: PvInterface): Promise<number> => {
    const { vmName, vmId, hostName, other = {} } = await target.facts(context.call);
    if (context.json) {
      writeJson(context.stdout, {
        interface: target.name,
        type: target.type,
        vmName: vmName ?? null,
        vmId: vmId ?? null,
        hostName: hostName ?? null,
        other,
      });
      return 0;
    }
    const rows = { interface: `${target.name} (${target.type})`, vmName, vmId, hostName };
    // Pairs, not one object: a fact of the host that is called vmName must not take that row's place.
    for (const [name, value] of [...Object.entries(rows), ...Object.entries(other)]) {
      if (value !== undefined) context.stdout.write(`${visible(name)}: ${visible(value)}\n`);
    }
    return 0;
  };
  return withInterface(context, work, undefined, ({ detection }) => checkTrust(detection, trustOf(own)));
}
