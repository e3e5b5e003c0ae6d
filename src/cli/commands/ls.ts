import type { StoreEntry } from "../../contract/store.js";
import { type Context, callOptions, withInterface } from "../io/context.js";
import { entryJson, visible, visibleKey, writeEach } from "../io/output.js";

/** Options of `pvbus ls`. */
export interface LsOptions {
  /** Each key's permissions too. */
  readonly permissions?: boolean;
}

/** A key and what is said of it. */
interface Listed {
  readonly entry: StoreEntry;
  readonly granted: readonly string[] | undefined;
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
    const entries = async function* (): AsyncGenerator<Listed, void, undefined> {
      for await (const entry of target.list(prefix, callOptions(context)))
        yield { entry, granted: await permissions?.read(entry.key, callOptions(context)) };
    };
    await writeEach(stdout, entries(), {
      json: json
        ? ({ entry, granted }) => ({
            ...entryJson(entry),
            ...(permissions === undefined ? {} : { permissions: granted ?? null }),
          })
        : undefined,
      line: ({ entry: { key, value }, granted }) =>
        `${visibleKey(key)}${value === undefined ? "" : `=${visible(value)}`}${granted === undefined ? "" : `\t(${granted.join(",")})`}`,
    });
    return 0;
  });
}
