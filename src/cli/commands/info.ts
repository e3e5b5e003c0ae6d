import { type Context, callOptions, withInterface } from "../io/context.js";
import { visible, writeJson } from "../io/output.js";

/** `pvbus info`: what the host tells about this machine, in the same words on every hypervisor. */
export function infoCommand(context: Context): Promise<number> {
  return withInterface(context, async (target) => {
    const { vmName, vmId, hostName, other = {} } = await target.facts(callOptions(context));
    if (context.options.json === true) {
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
  });
}
