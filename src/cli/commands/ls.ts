import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { type ListedEntry, printEntries } from "../io/keys.js";
import { permissionsOf } from "./permissions.js";

/**
 * `pvbus ls [PREFIX]`: one `key=value` a line, or a JSON array, written as the store yields it; with `-p` a tab and the key's
 * permissions behind it.
 */
export const ls: Command<Context> = {
  name: "ls",
  args: ["[prefix]"],
  description: "list keys and values",
  options: [{ name: "permissions", short: "p", description: "show permissions too (Xen)" }],
  load:
    async () =>
    (context, [prefix = ""], { permissions }) =>
      withInterface(context, async (target) => {
        if (permissions !== true) return context.keys.ls(target, prefix);
        const granted = await permissionsOf(context, target);
        const entries = async function* (): AsyncGenerator<ListedEntry, void, undefined> {
          for await (const entry of target.list(prefix, context.call))
            yield { entry, permissions: (await granted.read(entry.key)) ?? null };
        };
        await printEntries(context, entries());
        return 0;
      }),
};
