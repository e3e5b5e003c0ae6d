import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";

/**
 * `pvbus get KEY`: the value as it is and a line end; on a terminal its control characters are shown as escapes. Exit 1
 * when the key is missing.
 */
export const get: Command<Context> = {
  name: "get",
  args: ["<key>"],
  description: "print the value of a key",
  load:
    async () =>
    (context, [key = ""]) =>
      withInterface(context, (target) => context.keys.get(target, key)),
};
