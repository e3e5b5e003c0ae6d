import { type Context, callOptions, withInterface } from "../context.js";
import { entryJson, visible } from "../output.js";

/** `pvbus watch [PREFIX]`: one line per change until a signal, the time limit or the count ends it. */
export function watchCommand(
  context: Context,
  prefix = "",
  { count = Infinity }: { count?: number } = {},
): Promise<number> {
  return withInterface(context, async (target) => {
    const ready = (): void => {
      if (context.options.json !== true)
        context.stderr.write(`watching ${visible(prefix) || "everything"} on ${target.name}\n`);
    };
    let seen = 0;
    for await (const change of target.watch(prefix, { ...callOptions(context), ready })) {
      const { key, value } = change;
      if (context.options.json === true) context.stdout.write(`${JSON.stringify(entryJson(change))}\n`);
      else
        context.stdout.write(
          value === undefined ? `-${visible(key)}\n` : `${visible(key)}=${visible(value)}\n`,
        );
      if (++seen >= count) break;
    }
    return 0;
  });
}
