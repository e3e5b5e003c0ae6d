import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { type ListedEntry, printEntries } from "../io/keys.js";
import { NAMESPACE, namedEntries, withPortable } from "../io/namespace.js";
import { permissionsOf } from "./permissions.js";

/**
 * `pvbus ls [PREFIX]`: one `key=value` a line, or a JSON array, written as the store yields it; with `-p` a tab and the key's
 * permissions behind it. With `-n` the namespace's names, and in the same place who has put each there.
 */
export const ls: Command<Context> = {
  name: "ls",
  args: ["[prefix]"],
  description: "list keys and values",
  options: [{ name: "permissions", short: "p", description: "show permissions too (Xen)" }, NAMESPACE],
  load:
    async () =>
    async (context, [prefix = ""], { permissions, namespace }) => {
      if (namespace !== undefined) {
        if (permissions === true) throw context.usage("portable names have no permissions; leave out -p");
        return withPortable(context, namespace, async (view) => {
          await printEntries(context, namedEntries(view.list(context.call), prefix));
          return 0;
        });
      }
      return withInterface(context, async (target) => {
        if (permissions !== true) return context.keys.ls(target, prefix);
        const granted = await permissionsOf(context, target);
        const entries = async function* (): AsyncGenerator<ListedEntry, void, undefined> {
          for await (const entry of target.list(prefix, context.call))
            yield { entry, permissions: (await granted.read(entry.key)) ?? null };
        };
        await printEntries(context, entries());
        return 0;
      });
    },
};
