import { type Context, callOptions, withInterface } from "../context.js";
import { entryJson, jsonText, visible, visibleKey } from "../output.js";

/** `pvbus ls [PREFIX]`: one `key=value` a line, or a JSON array, written as the store yields it. */
export function lsCommand(context: Context, prefix = ""): Promise<number> {
  return withInterface(context, async (target) => {
    const { stdout } = context;
    const json = context.options.json === true;
    let count = 0;
    for await (const entry of target.list(prefix, callOptions(context))) {
      if (json) stdout.write(`${count === 0 ? "[" : ","}\n  ${jsonText(entryJson(entry))}`);
      else
        stdout.write(
          `${visibleKey(entry.key)}${entry.value === undefined ? "" : `=${visible(entry.value)}`}\n`,
        );
      count++;
    }
    if (json) stdout.write(count === 0 ? "[]\n" : "\n]\n");
    return 0;
  });
}
