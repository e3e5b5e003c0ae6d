import { type Context, callOptions, withInterface } from "../context.js";
import { entryJson, visible, visibleKey, writeEach } from "../output.js";

/** `pvbus ls [PREFIX]`: one `key=value` a line, or a JSON array, written as the store yields it. */
export function lsCommand(context: Context, prefix = ""): Promise<number> {
  return withInterface(context, async (target) => {
    const { stdout } = context;
    const json = context.options.json === true;
    await writeEach(stdout, target.list(prefix, callOptions(context)), {
      json: json ? entryJson : undefined,
      line: ({ key, value }) => `${visibleKey(key)}${value === undefined ? "" : `=${visible(value)}`}`,
    });
    return 0;
  });
}
