import { type Context, callOptions, withInterface } from "../io/context.js";
import { writeJson } from "../io/output.js";
import { missing } from "./get.js";

/** `pvbus rm KEY`: removes a key; exit 1 when it was not there. */
export function rmCommand(context: Context, key: string): Promise<number> {
  return withInterface(context, async (target) => {
    if (!(await target.delete(key, callOptions(context)))) return missing(context, target, key);
    if (context.options.json === true) writeJson(context.stdout, { key, deleted: true });
    return 0;
  });
}
