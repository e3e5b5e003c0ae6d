import type { StoreChange } from "../../contract/store.js";
import { type Context, callOptions, withInterface } from "../io/context.js";
import { entryJson, jsonText, visible, visibleKey } from "../io/output.js";

/**
 * `pvbus watch [PREFIX]`: one line per change until a signal, the time limit or the count ends it: `key=value`, or
 * `-key` when it is gone. Says on standard error when it is armed.
 */
export function watchCommand(
  context: Context,
  prefix = "",
  { count = Infinity }: { count?: number } = {},
): Promise<number> {
  return withInterface(context, async (target) => {
    const json = context.options.json === true;
    const ready = (): void => {
      const armed = `watching ${visible(prefix) || "everything"} on ${target.name}`;
      context.stderr.write(
        json ? `${jsonText({ watching: prefix, interface: target.name })}\n` : `${armed}\n`,
      );
    };
    let seen = 0;
    for await (const change of target.watch(prefix, { ...callOptions(context), ready })) {
      context.stdout.write(`${json ? jsonText(entryJson(change)) : changeLine(change)}\n`);
      if (++seen >= count) break;
    }
    return 0;
  });
}

function changeLine({ key, value }: StoreChange): string {
  // A key that begins with a dash must not look like one that is gone.
  const name = visibleKey(key);
  return value === undefined ? `-${name}` : `${name.replace(/^-/, "\\u{2d}")}=${visible(value)}`;
}
