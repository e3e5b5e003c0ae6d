import { pvbusError } from "../../base/errors.js";
import type { PvInterface } from "../../bus/interface/interface.js";
import { loadPermissions, type PermissionTexts } from "../../services.js";
import { type Context, callOptions, UsageError, withInterface } from "../io/context.js";
import { writeJson } from "../io/output.js";
import { missing } from "./get.js";

/** Options of `pvbus chmod`. */
export interface ChmodOptions {
  /** Everything below the key too. */
  readonly recursive?: boolean;
}

/** Returns the permissions of an interface's keys. @throws PvbusError `ERR_NOT_SUPPORTED` where keys have none */
export async function permissionsOf(context: Context, target: PvInterface): Promise<PermissionTexts> {
  const { permissionTexts } = await loadPermissions();
  const texts = permissionTexts(await target.store(callOptions(context)));
  if (texts !== undefined) return texts;
  throw pvbusError("ERR_NOT_SUPPORTED", `keys of ${target.type} have no permissions; those of Xen have`);
}

/** `pvbus chmod KEY PERMISSION…`: replaces a key's permissions, the owner's first; exit 1 when it is not there. */
export async function chmodCommand(
  context: Context,
  [key = "", ...words]: readonly string[],
  { recursive = false }: ChmodOptions,
): Promise<number> {
  // Also in one word with commas, as `ls -p` prints them.
  const permissions = words.flatMap((word) => word.split(","));
  const { arePermissions } = await loadPermissions();
  if (!arePermissions(permissions))
    throw new UsageError("chmod: a permission is n, r, w or b and a domain, such as r7; the owner's first");
  return withInterface(context, async (target) => {
    const texts = await permissionsOf(context, target);
    if (!(await texts.set(key, permissions, callOptions(context), recursive)))
      return missing(context, target, key);
    if (context.options.json === true) writeJson(context.stdout, { key, permissions });
    return 0;
  });
}
