import type { Command } from "../../contract/command.js";
import type { Context } from "../io/context.js";
import { NAMESPACE } from "../io/namespace.js";

const ORDERS = ["after", "first"];

function order(text: string): string {
  if (ORDERS.includes(text)) return text;
  throw new TypeError(`takes ${ORDERS.join(" or ")}, not '${text}'`);
}

/**
 * `pvbus take KEY`: prints a value, then erases it. Exit 1 when the key is missing, and when it was printed but erasing it has
 * failed.
 */
export const take: Command<Context> = {
  name: "take",
  args: ["<key>"],
  description: "print a value and erase it, for secrets that are read once",
  options: [
    NAMESPACE,
    {
      name: "erase",
      value: "ORDER",
      description: "after it is written out (default), or first: then a kill can lose it",
      parse: order,
    },
    {
      name: "require-erase",
      description:
        "refuse, and print nothing, where the host would keep it; erased first: a kill can lose it",
    },
  ],
  load: async () => (await import("./take-action.js")).takeAction,
};
