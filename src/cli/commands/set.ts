import { type Context, callOptions, withInterface } from "../io/context.js";
import { writeJson } from "../io/output.js";

/** `pvbus set KEY VALUE`: writes a value; `-` takes it from standard input, as it is. */
export function setCommand(context: Context, key: string, value: string): Promise<number> {
  return withInterface(context, async (target) => {
    await target.write(key, value === "-" ? await context.readInput() : value, callOptions(context));
    if (context.options.json === true) writeJson(context.stdout, { key, written: true });
    return 0;
  });
}
