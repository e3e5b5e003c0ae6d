import type { Bus } from "../../bus/bus.js";
import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { printChanges, type WatchedKeys } from "../io/keys.js";
import { NAMESPACE, namedKeys, withPortable } from "../io/namespace.js";
import { TRUST_HOST, trustOf } from "../io/trust.js";

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new TypeError("takes a whole number, one or more");
  return value;
}

/**
 * `pvbus watch [PREFIX]`: one line per change until a signal, the time limit or the count ends it: `key=value`, or
 * `-key` when it is gone. With `-n` what the host gives: of the whole namespace, or of one name.
 */
export const watch: Command<Context> = {
  name: "watch",
  args: ["[prefix]"],
  description: "print changes as they happen",
  options: [
    NAMESPACE,
    TRUST_HOST,
    { name: "count", value: "N", description: "end after N changes", parse: positive },
  ],
  interruptible: true,
  load:
    async () =>
    async (context, [prefix = ""], own) => {
      const { count = Infinity, namespace } = own;
      const { checkTrust } = await import("../../tools/trust.js");
      const check = ({ detection }: Bus): void => checkTrust(detection, trustOf(own));
      const print = async (keys: WatchedKeys): Promise<number> => {
        await printChanges(context, keys, prefix, count as number);
        return 0;
      };
      return namespace === undefined
        ? withInterface(context, print, undefined, check)
        : withPortable(context, namespace, (view) => print(namedKeys(view)), check);
    },
};
