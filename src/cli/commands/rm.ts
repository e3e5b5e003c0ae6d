import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";

/** `pvbus rm KEY`: removes a key; exit 1 when it was not there. */
export const rm: Command<Context> = {
  name: "rm",
  args: ["<key>"],
  description: "remove a key",
  load:
    async () =>
    (context, [key = ""]) =>
      withInterface(context, (target) => context.keys.rm(target, key)),
};
