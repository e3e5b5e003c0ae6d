import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { NAMESPACE, namedKeys, withPortable } from "../io/namespace.js";

/** `pvbus rm KEY`: removes a key; exit 1 when it was not there. With `-n` what was published is taken back. */
export const rm: Command<Context> = {
  name: "rm",
  args: ["<key>"],
  description: "remove a key",
  options: [NAMESPACE],
  load:
    async () =>
    async (context, [key = ""], { namespace }) =>
      namespace === undefined
        ? withInterface(context, (target) => context.keys.rm(target, key))
        : withPortable(context, namespace, (view) => context.keys.rm(namedKeys(view), key)),
};
