import { type Context, callOptions, withInterface } from "../context.js";
import { entryJson, jsonText, visible, visibleKey } from "../output.js";

/** Options of `pvbus ls`. */
export interface LsOptions {
  /** Each key's permissions too. */
  readonly permissions?: boolean;
}

/**
 * `pvbus ls [PREFIX]`: one `key=value` a line, or a JSON array, written as the store yields it; with `-p` a tab and the key's
 * permissions behind it.
 */
export function lsCommand(context: Context, prefix = "", own: LsOptions = {}): Promise<number> {
  return withInterface(context, async (target) => {
    const { stdout } = context;
    const json = context.options.json === true;
    const permissions =
      own.permissions === true
        ? await (await import("./permissions.js")).permissionsOf(context, target)
        : undefined;
    let count = 0;
    for await (const entry of target.list(prefix, callOptions(context))) {
      const granted = await permissions?.read(entry.key, callOptions(context));
      if (json) {
        const shown = {
          ...entryJson(entry),
          ...(permissions === undefined ? {} : { permissions: granted ?? null }),
        };
        stdout.write(`${count === 0 ? "[" : ","}\n  ${jsonText(shown)}`);
      } else {
        const value = entry.value === undefined ? "" : `=${visible(entry.value)}`;
        stdout.write(
          `${visibleKey(entry.key)}${value}${granted === undefined ? "" : `\t(${granted.join(",")})`}\n`,
        );
      }
      count++;
    }
    if (json) stdout.write(count === 0 ? "[]\n" : "\n]\n");
    return 0;
  });
}
