import { pvbusError } from "../../base/errors.js";
import { Call } from "../../base/flow/call.js";
import type { PvInterface } from "../../bus/interface/interface.js";
import type { Command } from "../../contract/command.js";
import { UsageError } from "../grammar/usage.js";
import { type Context, withInterface } from "../io/context.js";
import { missing } from "../io/keys.js";

/**
 * Returns the permissions of an interface's keys, each call with the user's signal and time limit; `set` throws a UsageError for
 * what is none.
 * @throws PvbusError `ERR_NOT_SUPPORTED` where keys have none
 */
export async function permissionsOf({ call }: Context, target: PvInterface) {
  const { permissionTexts: permissions } = await target.store(call);
  if (permissions === undefined)
    throw pvbusError("ERR_NOT_SUPPORTED", `keys of ${target.type} have no permissions; those of Xen have`);
  return {
    read: (key: string) => permissions.read(key, new Call(call)),
    set: async (key: string, texts: readonly string[], below: boolean) => {
      try {
        return await permissions.set(key, texts, below, new Call(call));
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        throw new UsageError(`chmod: ${error.message}`, { cause: error });
      }
    },
  };
}

/** `pvbus chmod KEY PERMISSION…`: replaces a key's permissions, the owner's first; exit 1 when it is not there. */
export const chmod: Command<Context> = {
  name: "chmod",
  args: ["<key>", "<permission...>"],
  description: "replace a key's permissions (Xen): n7 r0, the owner's first",
  options: [{ name: "recursive", short: "r", description: "everything below the key too" }],
  load:
    async () =>
    (context, [key = "", ...words], { recursive }) =>
      withInterface(context, async (target) => {
        // Also in one word with commas, as `ls -p` prints them.
        const permissions = words.flatMap((word) => word.split(","));
        const granted = await permissionsOf(context, target);
        if (!(await granted.set(key, permissions, recursive === true))) return missing(context, target, key);
        if (context.json) context.writeJson({ key, permissions });
        return 0;
      }),
};
