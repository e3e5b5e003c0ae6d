import { pvbusError } from "../base/errors.js";
import type { Bus } from "../bus/bus.js";
import type { PvInterface } from "../bus/interface/interface.js";
import type { PortableChoice } from "../contract/portable.js";

/**
 * Returns the interfaces in the order in which they are asked, the primary one first; or the one that is named.
 * @throws PvbusError `ERR_NO_INTERFACE` when there is no such one
 */
export function chosenInterfaces(
  bus: Bus,
  { interface: name, type }: PortableChoice,
): readonly PvInterface[] {
  const { primary, interfaces } = bus;
  if (name === undefined && type === undefined)
    return primary === undefined ? interfaces : [primary, ...interfaces.filter((each) => each !== primary)];
  const chosen = name === undefined ? bus.byType(type ?? "") : bus.interface(name);
  if (chosen !== undefined && (type === undefined || chosen === bus.byType(type))) return [chosen];
  throw pvbusError("ERR_NO_INTERFACE", `there is no interface ${name ?? type}; see \`pvbus detect\``);
}
