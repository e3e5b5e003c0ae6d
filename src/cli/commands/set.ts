import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";

/** `pvbus set KEY VALUE`: writes a value; `-` takes it from standard input, as it is. */
export const set: Command<Context> = {
  name: "set",
  args: ["<key>", "<value>"],
  description: "write a value; - takes it from standard input",
  load:
    async () =>
    (context, [key = "", value = ""]) =>
      withInterface(context, async (target) =>
        context.keys.set(target, key, value === "-" ? await context.readInput() : value),
      ),
};
