import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { printChanges } from "../io/keys.js";

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new TypeError("takes a whole number, one or more");
  return value;
}

/**
 * `pvbus watch [PREFIX]`: one line per change until a signal, the time limit or the count ends it: `key=value`, or
 * `-key` when it is gone.
 */
export const watch: Command<Context> = {
  name: "watch",
  args: ["[prefix]"],
  description: "print changes as they happen",
  options: [{ name: "count", value: "N", description: "end after N changes", parse: positive }],
  interruptible: true,
  load:
    async () =>
    (context, [prefix = ""], { count = Infinity }) =>
      withInterface(context, async (target) => {
        await printChanges(context, target, prefix, count as number);
        return 0;
      }),
};
