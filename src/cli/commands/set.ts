import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { NAMESPACE, namedKeys, withPortable } from "../io/namespace.js";

/** `pvbus set KEY VALUE`: writes a value; `-` takes it from standard input, as it is. With `-n` it is published. */
export const set: Command<Context> = {
  name: "set",
  args: ["<key>", "<value>"],
  description: "write a value; - takes it from standard input",
  options: [NAMESPACE],
  load:
    async () =>
    async (context, [key = "", value = ""], { namespace }) => {
      const given = async (): Promise<string | Uint8Array> => (value === "-" ? context.readInput() : value);
      if (namespace === undefined)
        return withInterface(context, async (target) => context.keys.set(target, key, await given()));
      return withPortable(context, namespace, async (view) =>
        context.keys.set(namedKeys(view), key, await given()),
      );
    },
};
